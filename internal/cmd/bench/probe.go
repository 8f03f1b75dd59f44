package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/httpapi"
)

// probe is the api's handler in this process. It finds out which statement an endpoint sends.
type probe struct {
	pool    *pgxpool.Pool
	handler http.Handler
	tracer  *tracer
}

func newProbe(ctx context.Context, url string, secret []byte, source httpapi.Source) (*probe, error) {
	p := &probe{tracer: &tracer{}}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.Tracer = p.tracer
	if p.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	tokens, err := httpapi.NewTokens(ctx, httpapi.TokenConfig{Secret: secret})
	if err == nil {
		p.handler, err = httpapi.New(httpapi.Config{
			Pool: p.pool, Tokens: tokens, Source: source, Logger: slog.New(slog.DiscardHandler),
			Ready: func(context.Context) error { return nil },
		})
	}
	if err != nil {
		p.pool.Close()
		return nil, err
	}
	return p, nil
}

// ask sends a request and returns the one statement that it makes. More than one would be more than one round trip.
func (p *probe) ask(ctx context.Context, path, token string) (query, error) {
	p.tracer.reset()
	request := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	request.Header.Set("Authorization", "Bearer "+token)
	answer := httptest.NewRecorder()
	p.handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		return query{}, fmt.Errorf("status is %d, want 200: %s", answer.Code, answer.Body)
	}
	queries := p.tracer.reset()
	if len(queries) != 1 {
		return query{}, fmt.Errorf("a request makes %d statements, want 1", len(queries))
	}
	return queries[0], nil
}

// query is a statement with its arguments.
type query struct {
	sql  string
	args []any
}

// tracer keeps what is sent, but for what reads the lag, which all requests of a second share.
type tracer struct {
	mu      sync.Mutex
	queries []query
}

// TraceQueryStart is called by pgx.
func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !strings.Contains(data.SQL, "GetLag") {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.queries = append(t.queries, query{data.SQL, data.Args})
	}
	return ctx
}

// TraceQueryEnd is called by pgx.
func (*tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// reset forgets what was sent and returns it.
func (t *tracer) reset() []query {
	t.mu.Lock()
	defer t.mu.Unlock()
	queries := t.queries
	t.queries = nil
	return queries
}

// script is a statement as pgbench takes it.
type script struct {
	sql  string
	vars []string // name=value
}

var (
	comment     = regexp.MustCompile(`(?m)^\s*--.*\n?`)
	placeholder = regexp.MustCompile(`\$[0-9]+`)
	// variable is what pgbench would take for one of its own.
	variable = regexp.MustCompile(`(^|[^:]):[A-Za-z_]`)
)

// script makes the parameters of a statement variables of pgbench, which makes them parameters again. For a variable without a value it
// sends null, so what is null is left without one or, with literalNulls, becomes a literal. Each parameter is cast to the type that it has
// in the statement, because pgbench makes a new one of each use.
func (q query) script(ctx context.Context, pool *pgxpool.Pool, literalNulls bool) (script, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return script{}, err
	}
	defer conn.Release()
	described, err := conn.Conn().Prepare(ctx, "", q.sql)
	if err != nil {
		return script{}, err
	}
	if len(described.ParamOIDs) != len(q.args) {
		return script{}, fmt.Errorf("the statement has %d parameters, but %d arguments", len(described.ParamOIDs), len(q.args))
	}
	types := conn.Conn().TypeMap()
	var s script
	text := make(map[string]string) // by placeholder
	for i, arg := range q.args {
		oid := described.ParamOIDs[i]
		named, ok := types.TypeForOID(oid)
		if !ok {
			return script{}, fmt.Errorf("parameter $%d is of an unknown type", i+1)
		}
		value, err := types.Encode(oid, pgtype.TextFormatCode, arg, nil)
		if err != nil {
			return script{}, err
		}
		number := strconv.Itoa(i + 1)
		text["$"+number] = ":p" + number + "::" + named.Name
		switch {
		case value != nil:
			s.vars = append(s.vars, "p"+number+"="+string(value))
		case literalNulls:
			text["$"+number] = "NULL::" + named.Name
		}
	}
	s.sql = comment.ReplaceAllLiteralString(q.sql, "")
	if found := variable.FindString(s.sql); found != "" {
		return script{}, fmt.Errorf("pgbench would take %q in the statement for a variable", found)
	}
	s.sql = placeholder.ReplaceAllStringFunc(s.sql, func(p string) string { return text[p] })
	s.sql = strings.TrimRight(s.sql, "; \n") + ";\n"
	return s, nil
}

const (
	// At most so many runs of a statement, and no new one after so long.
	rawRuns = 5
	rawTime = 1500 * time.Millisecond
)

// time runs a statement, prepared, one at a time and returns the median of the times that it takes to read all rows. A question has just run it, so what it
// reads is warm.
func (q query) time(ctx context.Context, pool *pgxpool.Pool) (time.Duration, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	var took []time.Duration
	for begin := time.Now(); len(took) == 0 || (len(took) < rawRuns && time.Since(begin) < rawTime); {
		start := time.Now()
		rows, err := conn.Query(ctx, q.sql, q.args...)
		if err != nil {
			return 0, err
		}
		for rows.Next() {
		}
		if err := rows.Err(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	return median(took), nil
}

// errNoStatement means that an endpoint does not read the host's tables in a way of its own.
var errNoStatement = errors.New("no statement of its own")

// raw returns how long the endpoint's statement on the host's own tables takes, or errNoStatement.
func (p *probe) raw(ctx context.Context, path, token string, rollup query) (time.Duration, error) {
	q, err := p.ask(ctx, path, token)
	if err != nil {
		return 0, err
	}
	if q.sql == rollup.sql {
		return 0, errNoStatement
	}
	return q.time(ctx, p.pool)
}
