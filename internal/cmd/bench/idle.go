package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// idleSettle is how long processes run before they are watched, so that their start does not count.
const idleSettle = 5 * time.Second

// idle measures the CPU time of two workers and an api that have nothing to do.
func (b *bench) idle(ctx context.Context) error {
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	workers, err := b.startFleet(ctx, h, 2)
	if err != nil {
		return err
	}
	defer workers.stop()
	server, err := b.startServer(ctx, h, []byte(rand.Text()+rand.Text()))
	if err != nil {
		return err
	}
	defer server.stop()
	pids := []int{server.cmd.Process.Pid}
	for _, w := range workers.workers {
		pids = append(pids, w.cmd.Process.Pid)
	}
	if err := wait(ctx, idleSettle); err != nil {
		return err
	}
	say("watching for %s", b.Idle)
	start := time.Now()
	ours, err := usedBy(pids...)
	if errors.Is(err, errNoProc) {
		say("%v: no row", err)
		return nil
	}
	if err != nil {
		return err
	}
	postgres, unseen := usedByPostgres(ctx, h.Pool)
	if err := wait(ctx, b.Idle); err != nil {
		return err
	}
	share := func(before, after time.Duration) float64 {
		return (after - before).Seconds() / time.Since(start).Seconds()
	}
	after, err := usedBy(pids...)
	if err != nil {
		return err
	}
	used := share(ours, after)
	measured := percent.format(used) + " of a core"
	if unseen == nil {
		after, err := usedByPostgres(ctx, h.Pool)
		if err != nil {
			return err
		}
		measured += fmt.Sprintf("; all of Postgres %s more", percent.format(share(postgres, after)))
	}
	b.add("idle", result{
		work: "two workers and an api without load", measured: measured, against: "one core", value: used, wanted: atMost(0.02, percent),
		label: "idle, of a core",
	})
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// memory reports the most that the processes of the other rows have held.
func (b *bench) memory(context.Context) error {
	const wanted = 64 // MiB
	for _, kind := range []string{"worker run", "api", "worker backfill"} {
		kib := b.peaks.of(kind)
		if kib == 0 {
			continue
		}
		r := result{work: fmt.Sprintf("memory of `%s`, the worst of all", kind), value: float64(kib) / 1024}
		if r.measured = mebibytes.format(r.value); kind != "worker backfill" {
			r.wanted, r.label = atMost(wanted, mebibytes), "memory of "+kind
		}
		b.add("memory", r)
	}
	return nil
}
