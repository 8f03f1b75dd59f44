package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/postgres"
	"daybook/queries"
)

// Default windows, in days.
const (
	defaultDays        = 30
	defaultRuntimeDays = 90 // of the usage of a runtime by day
)

// about is what a statement says of its answer as a whole. It stands in every row.
type about struct {
	workspace, user pgtype.UUID
	zone            string // of the answer's days
	built           bool   // from buckets, and not from facts while a rebuild is pending
	found           bool   // there is a row of usage
}

// read is a statement that only reads.
type read[P, T any] = func(*queries.Queries, context.Context, P) (T, error)

// endpoint is a usage endpoint: the parameters P of a statement, its rows R, and how they are written.
type endpoint[P comparable, R any] struct {
	params   func(*http.Request) (P, error)
	rollup   read[P, []R]
	source   read[P, []R]
	about    func(*R) about
	write    func(rowWriter, *P, *R)
	notFound *apiError
}

// with makes a read of one whose parameters are another type with the same fields.
func with[P, Q, T any](f read[Q, T], params func(P) Q) read[P, T] {
	return func(q *queries.Queries, ctx context.Context, p P) (T, error) { return f(q, ctx, params(p)) }
}

// as does so for the rows too.
func as[P, Q, R, S any](f read[Q, []S], params func(P) Q, row func(S) R) read[P, []R] {
	return func(q *queries.Queries, ctx context.Context, p P) ([]R, error) {
		rows, err := f(q, ctx, params(p))
		if err != nil {
			return nil, err
		}
		converted := make([]R, len(rows))
		for i, r := range rows {
			converted[i] = row(r)
		}
		return converted, nil
	}
}

// sorted makes a read whose rows are in the order of compare.
func sorted[P, R any](f read[P, []R], compare func(a, b R) int) read[P, []R] {
	return func(q *queries.Queries, ctx context.Context, p P) ([]R, error) {
		rows, err := f(q, ctx, p)
		slices.SortFunc(rows, compare)
		return rows, err
	}
}

// handler answers in the format or, if that is formatAny, in the one that the request accepts. Name says which endpoint it is.
func (e endpoint[P, R]) handler(s *API, name string, f format) func(http.ResponseWriter, *http.Request) error {
	statement, source := e.rollup, sourceRollup
	if s.config.Source == SourceHost {
		statement, source = e.source, sourceHost
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := e.params(r)
		if err != nil {
			return err
		}
		lag := s.lag.refresh()
		format := f.of(r)
		a, err := ask(r.Context(), s, name, format, statement, p, func(rows []R) usageAnswer { return e.answer(format, &p, rows) })
		if err != nil {
			return err
		}
		if !a.workspace.Valid {
			return s.notFound(r, e.notFound)
		}
		infoOf(r).learn(a.user, a.workspace)
		meta := usageHeader{zone: a.zone, source: source}
		if !a.built {
			meta.source = sourceLive
		}
		meta.lag, meta.lagKnown = s.lag.wait(r.Context(), lag)
		answerUsage(w, r, meta, a.document)
		return nil
	}
}

// usageAnswer is what those who ask the same get.
type usageAnswer struct {
	about
	document document
}

// answer returns an answer without a workspace if there is nothing that the caller may see.
func (e endpoint[P, R]) answer(f format, p *P, rows []R) usageAnswer {
	if len(rows) == 0 {
		return usageAnswer{}
	}
	about := e.about(&rows[0])
	if !about.found {
		rows = nil // It was the one row that says what the answer is about.
	}
	if f == formatCSV {
		out := newCSVRows(func(w rowWriter) { e.writeRows(w, p, make([]R, 1)) })
		e.writeRows(out, p, rows)
		return usageAnswer{about, newDocument(contentTypeCSV, out.body())}
	}
	out := &jsonRows{buf: make([]byte, 0, len(rows)*sizeOfUsage)}
	e.writeRows(out, p, rows)
	return usageAnswer{about, newDocument(contentTypeJSON, out.body())}
}

// sizeOfUsage is about what a row of usage takes as JSON, in bytes.
const sizeOfUsage = 256

func (e endpoint[P, R]) writeRows(w rowWriter, p *P, rows []R) {
	for i := range rows {
		e.write(w, p, &rows[i])
		w.end()
	}
}

// tokens writes the four counts under tokenNames or, where clients expect them, under totalNames.
func tokens(w rowWriter, names *[4]string, input, output, cacheRead, cacheWrite int64) {
	w.number(names[0], input)
	w.number(names[1], output)
	w.number(names[2], cacheRead)
	w.number(names[3], cacheWrite)
}

var (
	tokenNames = [4]string{"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"}
	totalNames = [4]string{"total_input_tokens", "total_output_tokens", "total_cache_read_tokens", "total_cache_write_tokens"}
)

// acquire gets a connection within acquireTimeout, however long what is done with it may take.
func acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= acquireTimeout {
		return pool.Acquire(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	return pool.Acquire(ctx)
}

// query runs a read. If the host has changed a column since the connection prepared the statement, it is prepared again.
func query[P, T any](ctx context.Context, s *API, f read[P, T], p P) (T, error) {
	conn, err := acquire(ctx, s.config.Pool)
	if err != nil {
		var none T
		return none, err
	}
	defer conn.Release()
	value, err := f(queries.New(postgres.DB(conn)), ctx, p)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == featureNotSupported {
		return f(queries.New(postgres.DB(conn)), ctx, p)
	}
	return value, err
}

// featureNotSupported is the SQLSTATE of "cached plan must not change result type".
const featureNotSupported = "0A000"

// notFound returns the error for what is not there or not the caller's to see, unless the caller's token is no good.
func (s *API) notFound(r *http.Request, notFound *apiError) error {
	hash := callerOf(r).tokenHash
	if !hash.Valid {
		return notFound
	}
	good, err := query(r.Context(), s, (*queries.Queries).IsTokenGood, hash.String)
	switch {
	case err != nil:
		return err
	case !good:
		return errUnauthorized
	default:
		return notFound
	}
}
