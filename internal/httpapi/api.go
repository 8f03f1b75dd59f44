// Package httpapi serves Daybook's HTTP API: it reads rollups for those who may see them and changes nothing.
//
// Who may see what is decided in the statement that reads the rows, so no answer can hold a row that its caller may
// not see. Errors are {"error": "…"}; those of the inside are logged with the request's id and never shown.
package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/queries"
)

// requestTimeout bounds a request, its wait for a connection too, so that a database that is away gives 503 in time.
const requestTimeout = 2500 * time.Millisecond

var plainID = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)

// Config configures the API.
type Config struct {
	// Pool reads the host's database. Required.
	Pool *pgxpool.Pool
	// JWTSecret verifies bearer tokens (HS256). Required.
	JWTSecret []byte
	// Logger gets a line for each request. Required.
	Logger *slog.Logger
}

type server struct {
	pool   *pgxpool.Pool
	logger *slog.Logger
	tokens *Tokens
}

// New returns the API's handler.
func New(config Config) (http.Handler, error) {
	if config.Pool == nil || config.Logger == nil {
		return nil, errors.New("httpapi: Config needs Pool and Logger")
	}
	tokens, err := NewTokens(config.JWTSecret)
	if err != nil {
		return nil, err
	}
	s := &server{pool: config.Pool, logger: config.Logger, tokens: tokens}
	r := chi.NewRouter()
	r.Use(identify, s.logRequests, s.recoverPanics, limitTime)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, errNotFound) })
	r.MethodNotAllowed(s.methodNotAllowed)

	r.Get("/healthz", s.health)
	r.Get("/readyz", s.ready)
	r.Route("/api", func(r chi.Router) {
		r.Use(s.authenticate)
		r.Get("/runtimes/{runtimeId}/usage", s.handle(s.runtimeUsage))
	})
	return r, nil
}

// handle turns a function that returns an error into a handler.
func (s *server) handle(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// methodNotAllowed answers 405 with the methods that the path has, as RFC 9110 asks.
func (s *server) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	routes := chi.RouteContext(r.Context()).Routes
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if routes.Match(chi.NewRouteContext(), method, r.URL.EscapedPath()) {
			w.Header().Add("Allow", method)
		}
	}
	s.fail(w, r, errMethod)
}

// health says that the process is alive.
func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready says that the rollups can be read.
func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	if _, err := queries.New(s.pool).GetLag(r.Context()); err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func limitTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func (s *server) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.logger.ErrorContext(r.Context(), "panic", slog.Any("panic", p),
					slog.String("stack", string(debug.Stack())), requestID(r))
				s.fail(w, r, errInternal)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func (s *server) logRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		next.ServeHTTP(ww, r)
		s.logger.InfoContext(r.Context(), "request",
			slog.String("method", r.Method),
			slog.String("route", chi.RouteContext(r.Context()).RoutePattern()),
			slog.Int("status", ww.Status()),
			slog.Duration("duration", time.Since(start)),
			requestID(r))
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
