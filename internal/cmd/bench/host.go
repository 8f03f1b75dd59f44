package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/benchhost"
)

// hotShare is the share of a host's usage that its largest runtime has.
const hotShare = 0.2

// Sizes of hosts.
const (
	small  = "small"
	middle = "middle"
	large  = "large"
)

// host is a database with a history and its rollups.
type host struct {
	*benchhost.Host
	kept     bool          // by an earlier run: it was filled then
	rows     int           // of usage
	backfill time.Duration // how long it took
	plain    time.Duration // how long CREATE TABLE AS took, if backfill is wanted
}

func (b *bench) size(name string) int {
	return map[string]int{small: b.Small, middle: b.Rows, large: b.Large}[name]
}

// host returns the host of a size, and makes it when it is first asked for.
func (b *bench) host(ctx context.Context, name string) (*host, error) {
	if h := b.hosts[name]; h != nil {
		return h, nil
	}
	h := &host{}
	if b.Use != "" {
		found, err := benchhost.Open(ctx, b.DatabaseURL, b.Use+"_"+name)
		if err != nil {
			return nil, err
		}
		if h.kept = found.Pool.Ping(ctx) == nil; h.kept {
			h.Host = found
		} else {
			found.Pool.Close()
		}
	}
	if !h.kept {
		prefix := b.Use
		if prefix == "" {
			prefix = fmt.Sprintf("daybook_bench_%d", os.Getpid())
		}
		var err error
		if h.Host, err = benchhost.Create(ctx, b.DatabaseURL, prefix+"_"+name); err != nil {
			return nil, fmt.Errorf("make the %s host: %w", name, err)
		}
	}
	b.hosts[name] = h
	if !h.kept {
		if err := b.fill(ctx, name, h); err != nil {
			return nil, fmt.Errorf("fill the %s host: %w", name, err)
		}
	}
	err := h.Pool.QueryRow(ctx, statement("count_usage")).Scan(&h.rows)
	return h, err
}

// fill makes the history of a host and its rollups, as an operator would. In the middle host the same is made by CREATE TABLE AS before.
func (b *bench) fill(ctx context.Context, name string, h *host) error {
	say("filling the %s host with %d usage rows", name, b.size(name))
	if err := h.Fill(ctx, b.Runtimes, b.size(name), int(hotShare*float64(b.size(name)))); err != nil {
		return err
	}
	if err := settle(ctx, h.Pool); err != nil {
		return err
	}
	if name == middle && b.wants("backfill") {
		say("create table as")
		var err error
		if h.plain, err = createPlain(ctx, h.Pool); err != nil {
			return err
		}
	}
	if _, err := b.worker(ctx, h, "migrate", "up"); err != nil {
		return err
	}
	var err error
	if h.backfill, err = b.worker(ctx, h, "backfill"); err != nil {
		return err
	}
	return settle(ctx, h.Pool)
}

// settle leaves nothing for autovacuum and the checkpointer to do while things are measured.
func settle(ctx context.Context, pool *pgxpool.Pool) error {
	return execute(ctx, pool, "vacuum", "checkpoint")
}

// execute runs statements of these names, one after the other.
func execute(ctx context.Context, db executor, names ...string) error {
	for _, name := range names {
		if _, err := db.Exec(ctx, statement(name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// executor is a pool or a connection.
type executor interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// worker runs a command of the worker's and returns how long it took.
func (b *bench) worker(ctx context.Context, h *host, args ...string) (time.Duration, error) {
	say("worker %s", strings.Join(args, " "))
	var out bytes.Buffer
	p := &process{kind: "worker " + args[0], peaks: &b.peaks}
	took, err := timed(func() error {
		if err := p.start(ctx, &out, h, b.Worker, nil, args...); err != nil {
			return err
		}
		<-p.ended
		return p.err
	})
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w\n%s", b.Worker, strings.Join(args, " "), err, &out)
	}
	return took, nil
}

func (b *bench) dropHosts(ctx context.Context) error {
	var errs []error
	for _, h := range b.hosts {
		if b.Keep || b.Use != "" {
			say("the database is kept: %s", h.Name)
			h.Pool.Close()
			continue
		}
		errs = append(errs, h.Drop(ctx))
	}
	return errors.Join(errs...)
}

// sampleTasks returns n tasks, or as many as there are, scattered over the whole history.
func (h *host) sampleTasks(ctx context.Context, n int) ([]pgtype.UUID, error) {
	var ids []pgtype.UUID
	percent := min(100, max(1, 400*float64(n)/float64(h.rows)))
	err := h.Pool.QueryRow(ctx, statement("sample_tasks"), n, percent).Scan(&ids)
	if err == nil && len(ids) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return nil, fmt.Errorf("sample tasks: %w", err)
	}
	return ids, nil
}

// environment is ours with more variables and without those that would change what is measured.
func environment(more ...string) []string {
	var env []string
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "DAYBOOK_") && name != "JWT_SECRET" && name != "DATABASE_URL" {
			env = append(env, variable)
		}
	}
	return append(env, more...)
}
