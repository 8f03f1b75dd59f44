package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

// plainTables are the facts and the rollups as plain tables in the schema plain, without triggers and without what keeps them exact.
// sql/plain_NAME.sql selects the rows of one, sql/plain_NAME_keys.sql makes its keys and indexes.
var plainTables = []string{
	"task_fact", "task_usage_fact", "task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour", "task_activity_by_hour",
	"workspace_usage_daily", "workspace_usage_daily_by_agent", "workspace_run_time_daily",
}

// createPlain makes them by CREATE TABLE AS, then the keys, and returns how long that takes. They are gone afterwards.
func createPlain(ctx context.Context, pool *pgxpool.Pool) (time.Duration, error) {
	return withPlain(ctx, pool, func() error {
		for _, name := range plainTables {
			if err := plain(ctx, pool, "CREATE TABLE plain."+name+" AS "+statement("plain_"+name)); err != nil {
				return err
			}
			if err := plain(ctx, pool, statement("plain_"+name+"_keys")); err != nil {
				return err
			}
		}
		return nil
	})
}

// insertPlain makes them with their keys, and returns how long it takes to fill them by INSERT … SELECT … GROUP BY on two connections, so
// that two cores are at work as with two workers. They are gone afterwards.
func insertPlain(ctx context.Context, pool *pgxpool.Pool) (took time.Duration, err error) {
	_, err = withPlain(ctx, pool, func() error {
		for _, name := range plainTables {
			if err := plain(ctx, pool, "CREATE TABLE plain."+name+" AS "+statement("plain_"+name)+" WITH NO DATA"); err != nil {
				return err
			}
			if err := plain(ctx, pool, statement("plain_"+name+"_keys")); err != nil {
				return err
			}
		}
		took, err = timed(func() error {
			// The facts of usage take the longest, and all that comes after them reads them.
			for _, lists := range [][2][]string{
				{{"task_usage_fact"}, {"task_fact", "task_activity_by_hour", "workspace_run_time_daily"}},
				{{"task_usage_daily", "task_usage_daily_by_agent", "workspace_usage_daily_by_agent"}, {"task_usage_daily_by_hour", "workspace_usage_daily"}},
			} {
				group, ctx := errgroup.WithContext(ctx)
				for _, list := range lists {
					group.Go(func() error { return fillPlain(ctx, pool, list) })
				}
				if err := group.Wait(); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
	return took, err
}

func fillPlain(ctx context.Context, pool *pgxpool.Pool, names []string) error {
	for _, name := range names {
		if err := plain(ctx, pool, "INSERT INTO plain."+name+" "+statement("plain_"+name)); err != nil {
			return err
		}
		if err := plain(ctx, pool, "ANALYZE plain."+name); err != nil {
			return err
		}
	}
	return nil
}

func withPlain(ctx context.Context, pool *pgxpool.Pool, do func() error) (time.Duration, error) {
	if err := plain(ctx, pool, "CREATE SCHEMA plain"); err != nil {
		return 0, err
	}
	took, err := timed(do)
	if err != nil {
		return 0, err
	}
	return took, plain(ctx, pool, "DROP SCHEMA plain CASCADE")
}

func plain(ctx context.Context, pool *pgxpool.Pool, sql string) error {
	if _, err := pool.Exec(ctx, sql); err != nil {
		return fmt.Errorf("plain tables: %w\nwith %s", err, sql)
	}
	return nil
}
