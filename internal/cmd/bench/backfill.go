package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// backfill compares the backfill of the middle host, which was done when it was made, with CREATE TABLE AS of the same facts and rollups.
func (b *bench) backfill(ctx context.Context) error {
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	if h.kept {
		say("the host was kept, so its backfill was not seen: no row")
		return nil
	}
	b.add("backfill", result{
		work:     fmt.Sprintf("backfill %s usage rows", grouped(h.rows)),
		measured: duration(h.backfill.Seconds()),
		against:  duration(h.plain.Seconds()) + " `CREATE TABLE AS` of the same facts and rollups, with indexes",
		value:    h.plain.Seconds() / h.backfill.Seconds(), wanted: atLeast(0.5, percent), label: "backfill, beside CREATE TABLE AS",
	})
	return nil
}

// space compares what Daybook takes after a backfill with what the host's two large tables take.
func (b *bench) space(ctx context.Context) error {
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	var source, all int64
	if err := h.Pool.QueryRow(ctx, statement("space")).Scan(&source, &all); err != nil {
		return err
	}
	const mebi = 1 << 20
	b.add("space", result{
		work:     fmt.Sprintf("space with %s usage rows", grouped(h.rows)),
		measured: mebibytes.format(float64(all)/mebi) + ", all of schema `daybook`",
		against:  mebibytes.format(float64(source)/mebi) + ", `task_usage` and `agent_task_queue` with indexes",
		value:    float64(all) / float64(source), wanted: atMost(1.2, times), label: "space, beside the source",
	})
	rows, err := h.Pool.Query(ctx, statement("largest_relations"))
	if err != nil {
		return err
	}
	defer rows.Close()
	var largest []string
	for rows.Next() {
		var name string
		var size int64
		if err := rows.Scan(&name, &size); err != nil {
			return err
		}
		largest = append(largest, fmt.Sprintf("`%s` %s", name, mebibytes.format(float64(size)/mebi)))
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(largest) == 0 {
		return errors.New("the schema daybook is empty")
	}
	kept := ""
	if h.kept {
		kept = " The host was kept by an earlier run, and rows that write may have left space that is not used."
	}
	b.note("Largest relations of the schema `daybook`: %s.%s", strings.Join(largest, ", "), kept)
	return nil
}
