package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
)

// addAgent binds another agent to a runtime of acme. Archived is SQL for a timestamptz.
func (b *bundle) addAgent(t *testing.T, runtime, archived string) string {
	t.Helper()
	return query[string](t, b.pool, `
		INSERT INTO public.agent (workspace_id, runtime_id, archived_at)
		VALUES ('00000000-0000-4000-8000-000000000001', $1, `+archived+`) RETURNING id::text`, runtime)
}

// awaitBlocked waits until so many statements in the database wait for others.
func awaitBlocked(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	deadline := time.Now().Add(awaitTimeout)
	const sql = `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
	for blocked := -1; blocked != n; {
		if blocked = query[int](t, pool, sql); time.Now().After(deadline) {
			t.Fatalf("%d statements wait, want %d", blocked, n)
		}
	}
}

// begin begins a transaction that ends with the test at the latest, as a slow one of the host's.
func begin(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback(context.Background()) })
	return tx
}

func execTx(t *testing.T, tx pgx.Tx, sql string, args ...any) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func commit(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// deleteMeanwhile deletes a runtime as the owner, in the background.
func (b *bundle) deleteMeanwhile(t *testing.T, runtime string) <-chan answer {
	t.Helper()
	header := bearer(t, owner)
	answered := make(chan answer, 1)
	go func() {
		a, err := b.send(t.Context(), http.MethodDelete, "/api/runtimes/"+runtime, header)
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	return answered
}

func TestDelete(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	gone, kept := b.addRuntime(t, "UTC"), b.addRuntime(t, "Asia/Tokyo")
	for _, id := range []string{gone, kept} {
		b.addAgent(t, id, "now()")
		b.addAgent(t, id, "now() + interval '1 day'")
		b.addUsage(t, id, "UTC", "now()", "p", "m", [4]int64{1, 2, 3, 4})
	}
	b.drain(t)
	count := func(what, runtime string) int {
		t.Helper()
		return query[int](t, b.pool, map[string]string{
			"runtimes": `SELECT count(*)::int FROM public.agent_runtime WHERE id = $1`,
			"agents":   `SELECT count(*)::int FROM public.agent WHERE runtime_id = $1`,
			"tasks":    `SELECT count(*)::int FROM public.agent_task_queue WHERE runtime_id = $1`,
			"usage":    `SELECT count(*)::int FROM public.task_usage u JOIN public.agent_task_queue q ON q.id = u.task_id WHERE q.runtime_id = $1`,
		}[what], runtime)
	}
	before := b.host(t)
	b.delete(t, owner, gone).requireError(t, http.StatusConflict, "agents are bound to this runtime")
	if after := b.host(t); after != before {
		t.Errorf("one that is in use was\n%s\nand is\n%s", before, after)
	}
	exec(t, b.pool, `UPDATE public.agent SET archived_at = now() WHERE runtime_id = $1`, gone)
	a := b.delete(t, owner, gone)
	a.require(t, http.StatusOK)
	if a.body != `{"status":"ok"}`+"\n" {
		t.Errorf("body is %s", a.body)
	}
	for what, n := range map[string]int{"runtimes": 1, "agents": 3, "tasks": 3, "usage": 3} {
		if got := count(what, gone); got != 0 {
			t.Errorf("%d %s are left", got, what)
		}
		if got := count(what, kept); got != n {
			t.Errorf("another runtime has %d %s, want %d", got, what, n)
		}
	}
	for _, pattern := range readPatterns[1:6] {
		a := b.get(t, owner, pathOf(pattern, gone))
		a.require(t, http.StatusNotFound)
		a.requireGolden(t, "runtime_not_found")
	}
	b.delete(t, owner, gone).require(t, http.StatusNotFound)
	b.patch(t, owner, gone, `{"timezone":"UTC"}`).require(t, http.StatusNotFound)
	b.drain(t)
	testdb.RequireExact(t, b.pool)
}

// bindings are how the host binds an agent to the runtime $1.
var bindings = map[string]string{
	"new":   `INSERT INTO public.agent (workspace_id, runtime_id) VALUES ('00000000-0000-4000-8000-000000000001', $1)`,
	"moved": `UPDATE public.agent SET runtime_id = $1 WHERE name = 'moves'`,
}

// setupBinding is a host for bindings to a runtime that has one agent, which is archived.
func setupBinding(t *testing.T) (b *bundle, runtime, archived string) {
	t.Helper()
	b = setupWrites(t)
	runtime = b.addUnused(t)
	archived = b.addAgent(t, runtime, "now()")
	exec(t, b.pool, `UPDATE public.agent SET name = 'moves' WHERE id = $1`, b.addAgent(t, b.addUnused(t), "NULL"))
	return b, runtime, archived
}

// An agent that is being bound when the DELETE comes is waited for, and then in the way.
func TestDeleteWaitsForAgentsThatAreBeingBound(t *testing.T) {
	t.Parallel()
	for name, bind := range bindings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, id, archived := setupBinding(t)
			tx := begin(t, b.pool)
			execTx(t, tx, bind, id)
			answered := b.deleteMeanwhile(t, id)
			awaitBlocked(t, b.pool, 1)
			commit(t, tx)
			a := <-answered
			a.requireError(t, http.StatusConflict, "agents are bound to this runtime")
			if n := query[int](t, b.pool, `SELECT count(*)::int FROM public.agent WHERE id = $1`, archived); n != 1 {
				t.Error("a DELETE that is refused has deleted an archived agent")
			}
		})
	}
}

// An agent that is to be bound while the DELETE is at work waits for it, and then finds no runtime.
func TestAgentsCannotBeBoundDuringADelete(t *testing.T) {
	t.Parallel()
	for name, bind := range bindings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, id, archived := setupBinding(t)
			// It holds up the DELETE after that has looked for agents.
			tx := begin(t, b.pool)
			execTx(t, tx, `SELECT FROM public.agent WHERE id = $1 FOR UPDATE`, archived)
			answered := b.deleteMeanwhile(t, id)
			awaitBlocked(t, b.pool, 1)
			bound := make(chan error, 1)
			go func() {
				_, err := b.pool.Exec(t.Context(), bind, id)
				bound <- err
			}()
			awaitBlocked(t, b.pool, 2)
			commit(t, tx)
			a := <-answered
			a.require(t, http.StatusOK)
			var pgErr *pgconn.PgError
			if err := <-bound; !errors.As(err, &pgErr) || pgErr.Code != "23503" {
				t.Errorf("an agent is bound to a runtime that is gone: %v", err)
			}
		})
	}
}

// An archived agent that is taken back into use while the DELETE is at work is as much in the way as any other.
func TestDeleteWhileAnAgentIsTakenBack(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id := b.addUnused(t)
	agent := b.addAgent(t, id, "now()")
	tx := begin(t, b.pool)
	execTx(t, tx, `UPDATE public.agent SET archived_at = NULL WHERE id = $1`, agent)
	answered := b.deleteMeanwhile(t, id)
	awaitBlocked(t, b.pool, 1)
	commit(t, tx)
	a := <-answered
	if n := query[int](t, b.pool, `SELECT count(*)::int FROM public.agent WHERE id = $1 AND runtime_id = $2`, agent, id); n != 1 {
		t.Error("an agent that is in use is gone")
	}
	a.requireError(t, http.StatusConflict, "agents are bound to this runtime")
}

// A task that the host is adding to a runtime keeps a runtime from being deleted, but its settings may change.
func TestTasksThatAreBeingAddedDoNotHoldUpAPatch(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id := b.addUnused(t)
	agent := b.addAgent(t, id, "now()")
	tx := begin(t, b.pool)
	execTx(t, tx, `INSERT INTO public.agent_task_queue (agent_id, runtime_id) VALUES ($1, $2)`, agent, id)
	answered := make(chan answer, 1)
	header := bearer(t, owner)
	go func() {
		a, err := b.sendBody(t.Context(), http.MethodPatch, "/api/runtimes/"+id, header, `{"timezone":"Asia/Tokyo"}`)
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	select {
	case a := <-answered:
		a.require(t, http.StatusOK)
	case <-time.After(3 * time.Second):
		t.Error("a PATCH waits for a transaction of the host's that adds a task")
		commit(t, tx)
		<-answered
	}
}

func TestChangesAtTheSameTime(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id := b.addUnused(t)
	tx := begin(t, b.pool)
	execTx(t, tx, `SELECT FROM public.agent_runtime WHERE id = $1 FOR UPDATE`, id)
	header := bearer(t, owner)
	const each = 3
	answered := map[string]chan answer{http.MethodPatch: make(chan answer, each), http.MethodDelete: make(chan answer, each)}
	for method, answers := range answered {
		for range each {
			go func() {
				a, err := b.sendBody(t.Context(), method, "/api/runtimes/"+id, header, `{"visibility":"public"}`)
				if err != nil {
					t.Error(err)
				}
				answers <- a
			}()
		}
	}
	awaitBlocked(t, b.pool, 2*each)
	commit(t, tx)
	deleted := 0
	for range each {
		switch a := <-answered[http.MethodDelete]; a.status {
		case http.StatusOK:
			deleted++
		default:
			a.requireError(t, http.StatusNotFound, "runtime not found")
		}
		if a := <-answered[http.MethodPatch]; a.status != http.StatusOK {
			a.requireError(t, http.StatusNotFound, "runtime not found")
		}
	}
	if deleted != 1 {
		t.Errorf("%d have deleted it, want 1", deleted)
	}
}
