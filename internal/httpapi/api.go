// Package httpapi serves Daybook's HTTP API: it reads rollups for those who may see them and, unless it is told otherwise, changes
// nothing.
//
// Who may see what is decided in the statement that reads the rows, so no answer can hold a row that its caller may
// not see. Errors are {"error": "…"}; those of the inside are logged with the request's id and never shown.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/klauspost/compress/gzhttp"
	"github.com/rs/cors"

	"daybook/queries"
)

const (
	// acquireTimeout bounds the wait for a connection, so that a database that is away gives 503 in time.
	acquireTimeout = 2500 * time.Millisecond
	// DefaultMaxRequests is the number of requests that are answered at once.
	DefaultMaxRequests = 256
)

// Source says which tables usage is read from.
type Source string

const (
	// SourceRollup is the rollups, and the facts while a rebuild is pending.
	SourceRollup Source = "rollup"
	// SourceHost is the host's own tables: the same answers, slower.
	SourceHost Source = "source"
)

// DefaultTimeout is the default of Config.Timeout, longer when the host's tables answer.
func (s Source) DefaultTimeout() time.Duration {
	if s == SourceHost {
		return time.Minute
	}
	return 2500 * time.Millisecond
}

// Config configures an API.
type Config struct {
	// Pool reads the host's database. Required.
	Pool *pgxpool.Pool
	// WritePool makes the changes of the management endpoints. Without it there are none: they answer 405.
	WritePool *pgxpool.Pool
	// Tokens verifies the callers' JWTs. Required.
	Tokens *Tokens
	// Source is where usage is read from. Default SourceRollup.
	Source Source
	// Timeout bounds a request. Default 2.5 s, or 1 min with SourceHost. Changes have 25 s.
	Timeout time.Duration
	// MaxRequests is the number of requests that are answered at once, half of them for one caller. More are turned away with 503, and
	// with 429 those of a caller who has half. Default 256.
	MaxRequests int
	// CORSOrigins are the origins, as https://example.com, whose pages may call the API, with the caller's cookie too. Default none.
	CORSOrigins []string
	// Ready returns an error unless the schema is the one that this version needs. Required.
	Ready func(context.Context) error
	// Logger gets a line for each request. Required.
	Logger *slog.Logger
}

// API is the handler of all endpoints.
type API struct {
	http.Handler
	config  Config
	lag     *lagSampler
	limiter *limiter
	metrics *requestMetrics
	shared  *coalescer
}

// New returns an error if something required is missing.
func New(config Config) (*API, error) {
	if config.Pool == nil || config.Tokens == nil || config.Ready == nil || config.Logger == nil {
		return nil, errors.New("httpapi: Config needs Pool, Tokens, Ready and Logger")
	}
	switch config.Source {
	case "":
		config.Source = SourceRollup
	case SourceRollup, SourceHost:
	default:
		return nil, fmt.Errorf("httpapi: unknown source %q", config.Source)
	}
	if config.Timeout <= 0 {
		config.Timeout = config.Source.DefaultTimeout()
	}
	if config.MaxRequests <= 0 {
		config.MaxRequests = DefaultMaxRequests
	}
	s := &API{config: config, limiter: newLimiter(config.MaxRequests), metrics: newRequestMetrics()}
	s.shared = newCoalescer(config.Timeout)
	s.lag = &lagSampler{read: s.readLag}
	s.Handler = s.routes()
	return s, nil
}

// routes is the whole tree. Each usage endpoint is there twice: as it is, in the format that the request accepts, and as CSV.
func (s *API) routes() chi.Router {
	r := chi.NewRouter()
	r.Use(s.begin, s.observe, s.recoverPanics, s.allowOrigins(), compress, middleware.GetHead)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, errNotFound) })
	r.MethodNotAllowed(s.methodNotAllowed)

	r.Get("/healthz", health)
	r.Get("/readyz", s.ready)
	r.Get("/openapi.yaml", serveOpenAPI)
	r.Get("/docs", s.handle(s.serveDocs))
	r.Get("/docs/*", s.handle(s.serveDocs))
	r.Route("/api", func(r chi.Router) {
		r.Use(s.authenticate, s.limitLoad)
		r.Get("/runtimes", s.handle(s.listRuntimes))
		r.Get("/runtimes/{runtimeId}", s.handle(s.getRuntime))
		if s.config.WritePool != nil {
			r.Patch("/runtimes/{runtimeId}", s.handle(s.updateRuntime))
			r.Delete("/runtimes/{runtimeId}", s.handle(s.deleteRuntime))
		}
		addUsage(s, r, "/runtimes/{runtimeId}/usage", runtimeUsage)
		addUsage(s, r, "/runtimes/{runtimeId}/usage/by-agent", runtimeUsageByAgent)
		addUsage(s, r, "/runtimes/{runtimeId}/usage/by-hour", runtimeUsageByHour)
		addUsage(s, r, "/runtimes/{runtimeId}/activity", runtimeActivity)
		addUsage(s, r, "/usage/daily", workspaceUsageDaily)
		addUsage(s, r, "/usage/summary", workspaceUsageSummary)
		addUsage(s, r, "/dashboard/usage/daily", dashboardUsageDaily)
		addUsage(s, r, "/dashboard/usage/by-agent", dashboardUsageByAgent)
		addUsage(s, r, "/dashboard/agent-runtime", dashboardAgentRunTime)
		addUsage(s, r, "/dashboard/runtime/daily", dashboardRunTimeDaily)
	})
	return r
}

func addUsage[P comparable, R any](s *API, r chi.Router, pattern string, e endpoint[P, R]) {
	r.Get(pattern, s.handle(e.handler(s, pattern, formatAny)))
	r.Get(pattern+".csv", s.handle(e.handler(s, pattern, formatCSV)))
}

// handle turns a function that returns an error into a handler.
func (s *API) handle(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// methodNotAllowed answers 405 with the methods that the path has, as RFC 9110 asks.
func (s *API) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	routes := chi.RouteContext(r.Context()).Routes
	for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodDelete} {
		if routes.Match(chi.NewRouteContext(), method, r.URL.EscapedPath()) {
			w.Header().Add("Allow", method)
		}
	}
	s.fail(w, r, errMethod)
}

// health says that the process is alive.
func health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// ready says that the rollups can be read, and are those that this version reads.
func (s *API) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), acquireTimeout)
	defer cancel()
	if err := s.config.Ready(ctx); err != nil {
		if !isAway(err) {
			s.config.Logger.ErrorContext(ctx, "not ready", slog.Any("error", err), requestID(r))
			err = errNotReady
		}
		s.fail(w, r, err)
		return
	}
	health(w, r)
}

// readLag is for lagSampler. Of the host's own tables only a replica can be behind.
func (s *API) readLag(ctx context.Context) (seconds float64, known bool, err error) {
	defer func() {
		if p := recover(); p != nil { // No request is there to recover it, and it would end the process.
			err = fmt.Errorf("panic: %v", p)
			s.config.Logger.ErrorContext(ctx, "the lag could not be read", slog.Any("error", err))
		}
	}()
	lag, err := queries.New(s.config.Pool).GetLag(ctx)
	if err != nil {
		s.config.Logger.ErrorContext(ctx, "the lag could not be read", slog.Any("error", err))
		return 0, false, err
	}
	if s.config.Source == SourceHost {
		return lag.ReplaySeconds, lag.Known, nil
	}
	return lag.Seconds, lag.Known && lag.Counted, nil
}

// allowOrigins lets pages of other origins call the API, if any are configured.
func (s *API) allowOrigins() func(http.Handler) http.Handler {
	if len(s.config.CORSOrigins) == 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	return cors.New(cors.Options{
		AllowedOrigins:   s.config.CORSOrigins,
		AllowedMethods:   []string{http.MethodGet, http.MethodPatch, http.MethodDelete},
		AllowedHeaders:   []string{"Authorization", "Content-Type", "If-None-Match", "X-Request-Id", "X-Workspace-Id", "X-Workspace-Slug"},
		ExposedHeaders:   []string{"Daybook-Lag-Seconds", "Daybook-Source", "Daybook-Timezone", "ETag", "Retry-After"},
		AllowCredentials: true,
		MaxAge:           600,
	}).Handler
}

// compress compresses what is long enough to be worth it, if the client can read that.
func compress(next http.Handler) http.Handler { return gzhttp.GzipHandler(next) }
