package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"daybook/internal/machine"
)

// describe says on what was measured.
func (b *bench) describe(ctx context.Context) error {
	var sizes []string
	var postgres string
	var runtimes int
	for _, name := range []string{small, middle, large} {
		h := b.hosts[name]
		if h == nil || h.rows == 0 {
			continue
		}
		sizes = append(sizes, grouped(h.rows))
		if postgres == "" {
			if err := h.Pool.QueryRow(ctx, statement("describe")).Scan(&postgres); err != nil {
				return fmt.Errorf("describe the server: %w", err)
			}
			if err := h.Pool.QueryRow(ctx, statement("count_runtimes")).Scan(&runtimes); err != nil {
				return fmt.Errorf("count runtimes: %w", err)
			}
		}
	}
	b.report.machine = fmt.Sprintf("Measured on %s%s, which Postgres, workers, api, pgbench and the bench share. %s. Hosts of %s usage rows, %s, "+
		"a fifth of the usage of one of them, 120 days.", counted(runtime.NumCPU(), "core"), memoryOfMachine(), postgres, strings.Join(sizes, ", "),
		counted(runtimes, "runtime"))
	return nil
}

// memoryOfMachine is "" where the system does not tell.
func memoryOfMachine() string {
	memory := machine.Memory()
	if memory == 0 {
		return ""
	}
	return fmt.Sprintf(" with %.0f GiB of memory", float64(memory)/(1<<30))
}
