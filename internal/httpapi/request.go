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
)

var plainID = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)

// requestInfo is what becomes known of a request while it is answered, for its line in the log.
type requestInfo struct {
	user, workspace pgtype.UUID
}

type requestInfoKey struct{}

// infoOf returns the info of a request that has passed observe.
func infoOf(r *http.Request) *requestInfo {
	info, ok := r.Context().Value(requestInfoKey{}).(*requestInfo)
	if !ok {
		return &requestInfo{}
	}
	return info
}

// observe logs and counts each request.
func (s *API) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		info := &requestInfo{}
		r = r.WithContext(context.WithValue(r.Context(), requestInfoKey{}, info))
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		next.ServeHTTP(ww, r)
		duration := time.Since(start)
		route := chi.RouteContext(r.Context()).RoutePattern()
		s.metrics.observe(r.Method, route, ww.Status(), duration)
		attributes := []slog.Attr{
			slog.String("method", r.Method),
			slog.String("route", route),
			slog.Int("status", ww.Status()),
			slog.Duration("duration", duration),
			requestID(r),
		}
		if info.user.Valid {
			attributes = append(attributes, slog.String("user", info.user.String()))
		}
		if info.workspace.Valid {
			attributes = append(attributes, slog.String("workspace", info.workspace.String()))
		}
		s.config.Logger.LogAttrs(r.Context(), slog.LevelInfo, "request", attributes...)
	})
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

func (s *API) limitTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.config.Timeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// identify gives each request an id for its log lines and its error: the caller's, if it is short and plain, else a new one.
// Those of chi's own middleware begin with the name of the machine.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(middleware.RequestIDHeader)
		if !plainID.MatchString(id) {
			id = rand.Text()
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), middleware.RequestIDKey, id)))
	})
}

func requestID(r *http.Request) slog.Attr {
	return slog.String("request_id", middleware.GetReqID(r.Context()))
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) //nolint:errcheck,errchkjson // The client is gone; there is nobody to tell.
}
