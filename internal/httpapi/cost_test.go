package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

//nolint:paralleltest // It counts what this process allocates, so it runs alone. The race detector adds some.
func TestWhatAnAnswerAllocates(t *testing.T) {
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	exec(t, b.pool, `
		WITH task AS (
			INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at)
			SELECT a.id, a.runtime_id, 'running', now() FROM public.agent a WHERE a.runtime_id = $1 LIMIT 1
			RETURNING id
		)
		INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at)
		SELECT task.id, 'p', 'm' || n, n, now() - n % 20 * interval '1 day' FROM task, generate_series(1, 400) n`, runtime)
	b.drain(t)
	for _, test := range []struct {
		path  string
		bound float64
	}{
		{"/api/runtimes/" + runtime, 400},
		{usagePath(runtime, "days=30"), 180 + 400*5},
		{"/api/dashboard/usage/daily?workspace_slug=acme&days=30", 180 + 400*5},
	} {
		ask := func() {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.path, http.NoBody)
			request.Header.Set("Authorization", "Bearer "+token(t, owner))
			answer := httptest.NewRecorder()
			b.api.ServeHTTP(answer, request)
			if answer.Code != http.StatusOK {
				t.Fatalf("status is %d: %s", answer.Code, answer.Body)
			}
		}
		n := testing.AllocsPerRun(20, ask)
		t.Logf("%s: %.0f allocations", test.path, n)
		if n > test.bound {
			t.Errorf("%s: %.0f allocations, want at most %.0f", test.path, n, test.bound)
		}
	}
}
