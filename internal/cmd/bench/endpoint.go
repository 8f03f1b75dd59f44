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

// connectingPerSecond is how many connections pgbench makes, and plans the statement on, in a second at the least. What it takes for fewer than
// these is a small part of a measurement.
const connectingPerSecond = 32

// endpoint is the measurement of one.
type endpoint struct {
	pattern string
	bench   *pgbench
	load    load
	nulls   bool // as literals for pgbench
	rounds  int
	length  time.Duration // of a measurement in a round

	script script
	rows   int
	raw    time.Duration // 0 if the endpoint does not read the host's tables in a way of its own
	single time.Duration // the median latency of the api with one connection
}

// endpointResult is what was measured with a number of connections.
type endpointResult struct {
	*endpoint
	pgbench, api float64 // a second
	p50, p99     time.Duration
}

func (r endpointResult) ratio() float64 { return r.api / r.pgbench }

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
	if e.rows, err = countRows(e.load.body); err != nil {
		return err
	}
	if _, err := e.load.run(ctx, 1, warmUp); err != nil {
		return err
	}
	r, err := e.load.run(ctx, 1, e.length)
	e.single = r.p50
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

// measure lets pgbench and the api take turns, so that both meet the same machine, and takes the median of each.
func (e *endpoint) measure(ctx context.Context, connections int) (endpointResult, error) {
	if _, err := e.load.run(ctx, connections, warmUp); err != nil {
		return endpointResult{}, err
	}
	connecting := time.Duration(connections/connectingPerSecond) * time.Second
	var pgbench, api []float64
	var p50, p99 []time.Duration
	for range e.rounds {
		perSecond, err := e.bench.run(ctx, e.script, connections, connecting+e.length)
		if err != nil {
			return endpointResult{}, err
		}
		pgbench = append(pgbench, perSecond)
		r, err := e.load.run(ctx, connections, e.length)
		if err != nil {
			return endpointResult{}, err
		}
		api, p50, p99 = append(api, r.perSecond), append(p50, r.p50), append(p99, r.p99)
	}
	return endpointResult{e, median(pgbench), median(api), median(p50), median(p99)}, nil
}
