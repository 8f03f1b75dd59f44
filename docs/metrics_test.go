// Package docs_test checks documents against the code.
package docs_test

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"daybook/internal/build"
	"daybook/internal/history"
	"daybook/internal/httpapi"
	"daybook/internal/testdb"
	"daybook/jobs"
)

// tableRow is a metric in docs/metrics.md: name, type and labels.
var tableRow = regexp.MustCompile("(?m)^\\| `(daybook_\\w+)` \\| (\\w+) \\| ([\\w, ]*?) *\\|")

// emptyCell is the end of a row that does not say what to do.
var emptyCell = regexp.MustCompile(`(?m)^\|.*\|\s*\|$`)

// TestMetricsAreDocumented compares what an api and a worker really serve with the tables.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range emptyCell.FindAllString(string(page), -1) {
		t.Errorf("it is not said what to do: %s", row)
	}
	documented := make(map[string]string)
	for _, row := range tableRow.FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = row[2] + " " + row[3]
	}
	served := make(map[string]string)
	for _, text := range []string{apiMetrics(t), workerMetrics(t)} {
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for name, family := range families {
			if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
				served[name] = strings.ToLower(family.GetType().String()) + " " + labels(family)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(served)) {
		// It is served if the role of the api may see the transactions of others.
		if served[name] != documented[name] {
			t.Errorf("%s is served as %q and documented as %q", name, served[name], documented[name])
		}
		delete(documented, name)
	}
	for _, rare := range []string{"daybook_verify_pass_age_seconds", "daybook_cleanup_held_seconds", "daybook_cleanup_held_transactions"} {
		delete(documented, rare) // Absent where they are not known.
	}
	if len(documented) > 0 {
		t.Errorf("documented and not served: %v", documented)
	}
}

func labels(family *dto.MetricFamily) string {
	var names []string
	for _, l := range family.GetMetric()[0].GetLabel() {
		names = append(names, l.GetName())
	}
	return strings.Join(names, ", ")
}

func apiMetrics(t *testing.T) string {
	t.Helper()
	tokens, err := httpapi.NewTokens(t.Context(), httpapi.TokenConfig{Secret: []byte("a secret of the tests, 32 bytes or more")})
	if err != nil {
		t.Fatal(err)
	}
	api, err := httpapi.New(httpapi.Config{
		Pool: testdb.New(t), Tokens: tokens, Logger: slog.New(slog.DiscardHandler), Source: httpapi.SourceRollup,
		Timeout: 10 * time.Second, MaxRequests: 10, Ready: func(context.Context) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, api, "/api/runtimes")
	return serve(t, api.Metrics(), "/metrics")
}

func workerMetrics(t *testing.T) string {
	t.Helper()
	pool := testdb.New(t)
	fleet, err := jobs.New(jobs.Config{Pool: testdb.Open(t, pool), Logger: slog.New(slog.DiscardHandler), Tick: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fleet.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := history.Play(t.Context(), pool, history.Config{Seed: 1, Transactions: 20}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(fleet, build.Collector())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("waited in vain for a job of River to end")
		}
		if text := serve(t, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), "/metrics"); strings.Contains(text, "daybook_river_jobs_total{") {
			return text
		}
	}
}

func serve(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Body.String()
}
