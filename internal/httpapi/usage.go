package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

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

// read is a statement that answers an endpoint.
type read[P, R any] = func(*queries.Queries, context.Context, P) ([]R, error)

// endpoint is a usage endpoint: the parameters P of a statement, its rows R, and how they are written.
type endpoint[P comparable, R any] struct {
	params   func(*http.Request) (P, error)
	rollup   read[P, R]
	source   read[P, R]
	about    func(*R) about
	write    func(rowWriter, *P, *R)
	notFound *apiError
}

// with makes a read of one whose parameters are another type with the same fields.
func with[P, Q, R any](f read[Q, R], params func(P) Q) read[P, R] {
	return func(q *queries.Queries, ctx context.Context, p P) ([]R, error) { return f(q, ctx, params(p)) }
}

// as does so for the rows too.
func as[P, Q, R, S any](f read[Q, S], params func(P) Q, row func(S) R) read[P, R] {
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

// handler answers in the format or, if that is formatAny, in the one that the request accepts. Name says which endpoint it is.
func (e endpoint[P, R]) handler(s *API, name string, f format) func(http.ResponseWriter, *http.Request) error {
	ask, source := e.rollup, sourceRollup
	if s.config.Source == SourceHost {
		ask, source = e.source, sourceHost
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := e.params(r)
		if err != nil {
			return err
		}
		lag := s.lag.refresh()
		rows, err := shared(r.Context(), s.shared, question{name, p}, func(ctx context.Context) (rows []R, err error) {
			err = s.query(ctx, func(ctx context.Context, q *queries.Queries) (err error) {
				rows, err = ask(q, ctx, p)
				return err
			})
			return rows, err
		})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return s.notFound(r, e.notFound)
		}
		a := e.about(&rows[0])
		if !a.found {
			rows = nil // It was the one row that says what the answer is about.
		}
		info := infoOf(r)
		info.user, info.workspace = a.user, a.workspace
		meta := usageHeader{zone: a.zone, source: source}
		if !a.built {
			meta.source = sourceLive
		}
		meta.lag, meta.lagKnown = s.lag.wait(r.Context(), lag)
		if f.of(r) == formatCSV {
			var none R
			out := newCSVRows(func(w rowWriter) { e.writeRow(w, &p, &none) })
			for i := range rows {
				e.writeRow(out, &p, &rows[i])
			}
			answerUsage(w, r, meta, contentTypeCSV, out.body())
			return nil
		}
		buf := buffers.Get().(*[]byte) //nolint:forcetypeassert // Nothing else is put there.
		out := &jsonRows{buf: (*buf)[:0]}
		for i := range rows {
			e.writeRow(out, &p, &rows[i])
		}
		body := out.body()
		answerUsage(w, r, meta, contentTypeJSON, body)
		*buf = out.buf
		buffers.Put(buf)
		return nil
	}
}

func (e endpoint[P, R]) writeRow(w rowWriter, p *P, r *R) {
	e.write(w, p, r)
	w.end()
}

// tokens writes the four counts. Prefix is "total_" where clients expect it.
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

// query runs a statement that only reads. If the host has changed a column since the connection prepared it, it is prepared again.
func (s *API) query(ctx context.Context, f func(context.Context, *queries.Queries) error) error {
	conn, err := acquire(ctx, s.config.Pool)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = f(ctx, queries.New(conn))
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == featureNotSupported {
		err = f(ctx, queries.New(conn))
	}
	return err
}

// featureNotSupported is the SQLSTATE of "cached plan must not change result type".
const featureNotSupported = "0A000"

// notFound returns the error for what is not there or not the caller's to see, unless the caller's token is no good.
func (s *API) notFound(r *http.Request, notFound *apiError) error {
	hash := callerOf(r).tokenHash
	if !hash.Valid {
		return notFound
	}
	return s.query(r.Context(), func(ctx context.Context, q *queries.Queries) error {
		good, err := q.IsTokenGood(ctx, hash.String)
		switch {
		case err != nil:
			return err
		case !good:
			return errUnauthorized
		default:
			return notFound
		}
	})
}
