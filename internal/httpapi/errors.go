package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// apiError is an error that a client may see.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string { return e.message }

var (
	errNotFound          = &apiError{http.StatusNotFound, "not found"}
	errRuntimeNotFound   = &apiError{http.StatusNotFound, "runtime not found"}
	errWorkspaceNotFound = &apiError{http.StatusNotFound, "workspace not found"}
	errMethod            = &apiError{http.StatusMethodNotAllowed, "method not allowed"}
	errUnauthorized      = &apiError{http.StatusUnauthorized, "a valid bearer token is required"}
	errNotYours          = &apiError{http.StatusForbidden, "you can only edit your own runtimes"}
	errActiveAgents      = &apiError{http.StatusConflict, "agents are bound to this runtime; archive them or bind them to another runtime first"}
	errReferred          = &apiError{http.StatusConflict, "something of the host's still refers to this runtime or its agents"}
	errBodyTooLarge      = &apiError{http.StatusRequestEntityTooLarge, "the body must not be longer than 16384 bytes"}
	errTooManyOfYours    = &apiError{http.StatusTooManyRequests, "too many of your requests are being answered at once; try again"}
	errTooMany           = &apiError{http.StatusServiceUnavailable, "too many requests are being answered at once; try again"}
	errNoKeys            = &apiError{http.StatusServiceUnavailable, "the keys that tokens are signed with are not available; try again"}
	errUnavailable       = &apiError{http.StatusServiceUnavailable, "the database is not available; try again"}
	errNotReady          = &apiError{http.StatusServiceUnavailable, "the schema of the database is not the one that this version needs"}
	errInternal          = &apiError{http.StatusInternalServerError, "internal error"}
)

func badRequest(message string) error { return &apiError{http.StatusBadRequest, message} }

// statusOf is the one table from an error to what the client gets. Whatever is not made for clients becomes a 500 or, if the database
// is away or too slow, a 503.
func statusOf(err error) *apiError {
	if known, ok := errors.AsType[*apiError](err); ok {
		return known
	}
	if isAway(err) {
		return errUnavailable
	}
	return errInternal
}

// lockNotAvailable is the SQLSTATE of lock_timeout.
const lockNotAvailable = "55P03"

// isAway tells whether the database cannot be reached, went away during a statement, or is too slow or too busy.
func isAway(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pgErr.Code[:min(2, len(pgErr.Code))] {
		case "08", "40", "53", "57":
			// Connection lost; a deadlock, or a standby that cancels what is in the way of its recovery; out of connections or of
			// other resources; shutting down, starting up or cancelled.
			return true
		default:
			return pgErr.Code == lockNotAvailable
		}
	}
	for _, lost := range []error{
		context.DeadlineExceeded, context.Canceled, io.EOF, io.ErrUnexpectedEOF, puddle.ErrClosedPool,
	} {
		if errors.Is(err, lost) {
			return true
		}
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return pgconn.Timeout(err) || pgconn.SafeToRetry(err)
}

// errorBody is what every error looks like.
type errorBody struct {
	Error string `json:"error"`
	// RequestID is given with errors of the server's, to be looked up in its log.
	RequestID string `json:"request_id,omitempty"`
}

// fail answers with an error, and logs the cause of one that is the server's own.
func (s *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := statusOf(err)
	body := errorBody{Error: e.message}
	if e.status >= http.StatusInternalServerError {
		body.RequestID = infoOf(r).id
		level := slog.LevelError
		if e == errTooMany { // It is in the request's line, and there are many of them.
			level = slog.LevelDebug
		}
		s.config.Logger.Log(r.Context(), level, "request failed", slog.Any("error", err), requestID(r))
	}
	// What one caller may not see another may.
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Del("Content-Length") // Of an answer that did not come about.
	switch e.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, e.status, body)
}
