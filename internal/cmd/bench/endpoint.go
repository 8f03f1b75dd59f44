package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// warmUp is how long the api is asked before it is measured, so that its connections are open and its statements planned.
const warmUp = 300 * time.Millisecond

// connectingPerSecond is how many connections pgbench makes, and plans the statement on, in a second at the least. Its time is longer by as many whole
// seconds; eight connections take it less than a tenth of one.
const connectingPerSecond = 64

// endpoint is the measurement of one.
type endpoint struct {
	pattern string
	bench   *pgbench
	load    load
	nulls   bool          // as literals for pgbench
	length  time.Duration // of a measurement in a round

	script script
	rows   int
	raw    time.Duration   // 0 if the endpoint does not read the host's tables in a way of its own
	alone  *endpointResult // with one connection
}

// endpointResult is what was measured with a number of connections, in one round or more.
type endpointResult struct {
	*endpoint
	connections  int
	pgbench, api []float64 // a second
	p50, p99     []time.Duration
}

func (r *endpointResult) ratio() float64 { return median(r.api) / median(r.pgbench) }

// prepare finds out what the endpoint asks and answers, and measures what does not depend on the number of connections.
func (e *endpoint) prepare(ctx context.Context, rollup, source *probe) error {
	q, err := rollup.ask(ctx, e.load.path, e.load.token)
	if err != nil {
		return err
	}
	if e.script, err = q.script(ctx, rollup.pool, e.nulls); err != nil {
		return err
	}
	e.raw, err = source.raw(ctx, e.load.path, e.load.token, q)
	if err != nil && !errors.Is(err, errNoStatement) {
		return fmt.Errorf("on the host's tables: %w", err)
	}
	if err := e.load.fetch(ctx); err != nil {
		return err
	}
	e.rows, err = countRows(e.load.body)
	return err
}

// countRows returns the length of an array. An object is one row.
func countRows(body []byte) (int, error) {
	if !bytes.HasPrefix(body, []byte("[")) {
		return 1, nil
	}
	var rows []json.RawMessage
	err := json.Unmarshal(body, &rows)
	return len(rows), err
}

// measure lets pgbench and the api take turns in so many rounds, so that both meet the same machine. Of all rounds the medians count.
func (r *endpointResult) measure(ctx context.Context, rounds int) error {
	if _, err := r.load.run(ctx, r.connections, warmUp); err != nil {
		return err
	}
	connecting := time.Duration(r.connections/connectingPerSecond) * time.Second
	for range rounds {
		perSecond, err := r.bench.run(ctx, r.script, r.connections, connecting+r.length)
		if err != nil {
			return err
		}
		r.pgbench = append(r.pgbench, perSecond)
		answers, err := r.load.run(ctx, r.connections, r.length)
		if err != nil {
			return err
		}
		r.api, r.p50, r.p99 = append(r.api, answers.perSecond), append(r.p50, answers.p50), append(r.p99, answers.p99)
	}
	return nil
}
