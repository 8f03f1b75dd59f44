package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// warmUp is how long the api is asked before it is measured, so that its connections are open and its statements planned.
const warmUp = 300 * time.Millisecond

// measurement is that of one endpoint.
type measurement struct {
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

// result is what was measured with a number of connections.
type result struct {
	*measurement
	pgbench, api float64 // a second
	p50, p99     time.Duration
}

func (r result) ratio() float64 { return r.api / r.pgbench }

// prepare finds out what the endpoint asks and answers, and measures what does not depend on the number of connections.
func (m *measurement) prepare(ctx context.Context, rollup, source *probe) error {
	q, err := rollup.ask(ctx, m.load.path, m.load.token)
	if err != nil {
		return err
	}
	if m.script, err = q.script(ctx, rollup.pool, m.nulls); err != nil {
		return err
	}
	m.raw, err = source.raw(ctx, m.load.path, m.load.token, q)
	if err != nil && !errors.Is(err, errNoStatement) {
		return fmt.Errorf("on the host's tables: %w", err)
	}
	if err := m.load.fetch(ctx); err != nil {
		return err
	}
	if m.rows, err = countRows(m.load.body); err != nil {
		return err
	}
	if _, err := m.load.run(ctx, 1, warmUp); err != nil {
		return err
	}
	r, err := m.load.run(ctx, 1, m.length)
	m.single = r.p50
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
func (m *measurement) measure(ctx context.Context, connections int) (result, error) {
	if _, err := m.load.run(ctx, connections, warmUp); err != nil {
		return result{}, err
	}
	var pgbench, api []float64
	var p50, p99 []time.Duration
	for range m.rounds {
		perSecond, err := m.bench.run(ctx, m.script, connections, m.length)
		if err != nil {
			return result{}, err
		}
		pgbench = append(pgbench, perSecond)
		r, err := m.load.run(ctx, connections, m.length)
		if err != nil {
			return result{}, err
		}
		api, p50, p99 = append(api, r.perSecond), append(p50, r.p50), append(p99, r.p99)
	}
	return result{m, median(pgbench), median(api), median(p50), median(p99)}, nil
}

func median[T float64 | time.Duration](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
