package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
)

// While a statement is at work, all who ask the same wait for one more, and get what was true after they asked. Others do not.
func TestSameQuestionsShareAStatement(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	same, other := "/api/runtimes/"+runtime, usagePath(runtime, "")
	tx := b.lockMembers(t)
	type result struct {
		path, accept string
		answer
	}
	answers := make(chan result)
	askFor := func(user, path, accept string) {
		header := http.Header{"Authorization": {"Bearer " + token(t, user)}, "Accept": {accept}}
		go func() {
			a, err := b.send(t.Context(), http.MethodGet, path, header)
			if err != nil {
				t.Error(err)
			}
			answers <- result{path, accept, a}
		}()
	}
	ask := func(user, path string) { askFor(user, path, "application/json") }
	waiting := func(want int) {
		t.Helper()
		for query[int](t, b.pool, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) != want {
			if t.Context().Err() != nil {
				t.Fatal("it does not wait")
			}
		}
	}
	ask(owner, same)
	waiting(1)
	for range 5 {
		ask(owner, same)
	}
	for range 2 {
		ask(owner, other)
		askFor(owner, other, "text/csv")
	}
	ask(member, same)
	waiting(4)
	// Those who asked while a statement was at work see what is committed before the next begins.
	if _, err := tx.Exec(t.Context(), `UPDATE public.agent_runtime SET name = 'after'`); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := 0
	for range 11 {
		a := <-answers
		if got := a.header.Get("Content-Type"); a.status != http.StatusOK || !strings.HasPrefix(got, a.accept) {
			t.Errorf("status is %d and Content-Type %q, want 200 and %s: %s", a.status, got, a.accept, a.body)
		}
		if a.path == same && !strings.Contains(a.body, `"name":"after"`) {
			before++
		}
	}
	if before > 2 { // The first of the owner and that of the member may have begun before.
		t.Errorf("%d answers are from before", before)
	}
}
