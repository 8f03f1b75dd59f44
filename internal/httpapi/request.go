package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/internal/server"
)

var plainID = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)

// requestInfo is what is known of a request, for its line in the log and for handlers. It is one value, for each that is put into a
// context copies the request.
type requestInfo struct {
	id string
	// caller is set by authenticate. Whose token it is becomes known with the answer, then it is in user too.
	caller          caller
	user, workspace pgtype.UUID
}

type requestInfoKey struct{}

// begin gives each request its info and its time limit. Its id is the caller's, if that is short and plain, else a new one; those of
// chi's own middleware begin with the name of the machine.
func (s *API) begin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(middleware.RequestIDHeader)
		if !plainID.MatchString(id) {
			id = rand.Text()
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.config.Timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, requestInfoKey{}, &requestInfo{id: id})))
	})
}

// learn notes what only the database knows: whose token it is, and which workspace the answer is about.
func (i *requestInfo) learn(user, workspace pgtype.UUID) { i.user, i.workspace = user, workspace }

// infoOf returns the info of a request that has passed begin.
func infoOf(r *http.Request) *requestInfo {
	info, ok := r.Context().Value(requestInfoKey{}).(*requestInfo)
	if !ok {
		return &requestInfo{}
	}
	return info
}

func requestID(r *http.Request) slog.Attr { return slog.String("request_id", infoOf(r).id) }

// observe logs and counts each request.
func (s *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		info := infoOf(r)
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		conn := server.Gather(r.Context())
		next.ServeHTTP(ww, r)
		duration := time.Since(start)
		sendNow(ww)
		conn.Send()
		route := chi.RouteContext(r.Context()).RoutePattern()
		s.metrics.observe(r.Method, route, ww.Status(), duration)
		handler := s.config.Logger.Handler()
		if !handler.Enabled(r.Context(), slog.LevelInfo) {
			return
		}
		// Not by a method of the logger, which would look for the place in the program that logs and for the time once more.
		line := slog.NewRecord(start.Add(duration), slog.LevelInfo, "request", 0)
		line.AddAttrs(
			slog.String("method", r.Method),
			slog.String("route", route),
			slog.Int("status", ww.Status()),
			slog.Duration("duration", duration),
			requestID(r),
		)
		if info.user.Valid {
			line.AddAttrs(slog.String("user", info.user.String()))
		}
		if info.workspace.Valid {
			line.AddAttrs(slog.String("workspace", info.workspace.String()))
		}
		handler.Handle(r.Context(), line) //nolint:errcheck // There is nowhere to say so.
	})
}

// sendNow sends what net/http keeps until the handler has returned, so that the client need not wait for what is noted of the answer. One without
// a length waits: it would be sent in chunks.
func sendNow(w http.ResponseWriter) {
	if w.Header().Get("Content-Length") != "" {
		http.NewResponseController(w).Flush() //nolint:errcheck // What cannot be sent now is sent later.
	}
}

func (s *API) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.config.Logger.ErrorContext(r.Context(), "panic", slog.Any("panic", p),
					slog.String("stack", string(debug.Stack())), requestID(r))
				s.fail(w, r, errInternal)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) //nolint:errcheck,errchkjson // The client is gone; there is nobody to tell.
}
