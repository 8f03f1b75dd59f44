package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"golang.org/x/sync/errgroup"
)

// fleet is some workers on a host, with their defaults.
type fleet struct {
	b       *bench
	host    *host
	workers []*workerProcess
}

// workerProcess is a worker and where its metrics are.
type workerProcess struct {
	process
	metrics string
}

// startFleet returns when all of them have begun to work.
func (b *bench) startFleet(ctx context.Context, h *host, workers int) (*fleet, error) {
	f := &fleet{b: b, host: h, workers: make([]*workerProcess, workers)}
	for i := range f.workers {
		if err := f.start(ctx, i); err != nil {
			f.stop()
			return nil, err
		}
	}
	for _, w := range f.workers {
		if err := w.awaitOK(ctx, w.metrics, "/readyz"); err != nil {
			f.stop()
			return nil, err
		}
	}
	return f, nil
}

func (f *fleet) start(ctx context.Context, i int) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	w := &workerProcess{process{kind: "worker run", peaks: &f.b.peaks}, addr}
	if err := w.start(ctx, os.Stderr, f.host, f.b.Worker, nil, "run", "--log-level=warn", "--metrics-addr="+addr); err != nil {
		return err
	}
	f.workers[i] = w
	return nil
}

func (f *fleet) stop() {
	var group errgroup.Group
	for _, w := range f.workers {
		if w != nil {
			group.Go(func() error {
				w.stop()
				return nil
			})
		}
	}
	group.Wait() //nolint:errcheck // None returns one.
}

// scrape returns what they have counted since they started.
func (f *fleet) scrape(ctx context.Context) (counters, error) {
	var sum counters
	for _, w := range f.workers {
		c, err := scrape(ctx, w.metrics)
		if err != nil {
			return counters{}, err
		}
		if sum, err = sum.plus(c); err != nil {
			return counters{}, err
		}
	}
	return sum, nil
}

func scrape(ctx context.Context, addr string) (counters, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", http.NoBody)
	if err != nil {
		return counters{}, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return counters{}, fmt.Errorf("scrape a worker: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // It is read.
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(response.Body)
		return counters{}, errors.New("scrape a worker: " + response.Status + ": " + string(answer))
	}
	return parseCounters(response.Body)
}
