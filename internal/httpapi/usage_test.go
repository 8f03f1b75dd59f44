package httpapi_test

import (
	"fmt"
	"math"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := query[string](t, b.pool, `
		INSERT INTO public.agent_runtime (id, workspace_id, name, provider, timezone)
		VALUES ('0190163d-8694-739b-aea5-966c26f8ad91', '00000000-0000-4000-8000-000000000001', 'r', 'p', 'America/New_York')
		RETURNING id::text`)
	exec(t, b.pool, `INSERT INTO public.agent (workspace_id, runtime_id) VALUES ('00000000-0000-4000-8000-000000000001', $1)`, runtime)
	// Days far in the future are always in the window, so the file need not change.
	for i, at := range []string{"2901-05-02 03:59:59Z", "2901-05-02 04:00:00Z", "2901-05-01 12:00:00Z"} {
		n := int64(i + 1)
		for _, provider := range []string{"codex", "claude"} {
			for _, model := range []string{"small", "large"} {
				b.addUsage(t, runtime, "", "'"+at+"'::timestamptz", provider, model, [4]int64{n, 10 * n, 100 * n, 1000 * n})
			}
		}
	}
	b.addUsage(t, runtime, "", "'2902-01-01 12:00Z'::timestamptz", "<p> & \"q\"", "größe/1", [4]int64{math.MaxInt64, 1 << 53, 1<<53 + 1, 0})
	b.drain(t)
	a := b.get(t, member, usagePath(runtime, ""))
	a.require(t, http.StatusOK)
	a.requireGolden(t, "usage")
	if source, zone := a.header.Get("Daybook-Source"), a.header.Get("Daybook-Timezone"); source != "rollup" || zone != "America/New_York" {
		t.Errorf("source is %q, zone is %q", source, zone)
	}
}

func TestNoUsageIsAnEmptyArray(t *testing.T) {
	t.Parallel()
	b := setup(t)
	never := b.addRuntime(t, "Asia/Tokyo")
	old := b.addRuntime(t, "Asia/Tokyo")
	b.addUsage(t, old, "", "now() - interval '400 days'", "p", "m", [4]int64{1, 1, 1, 1})
	gone := b.addRuntime(t, "Asia/Tokyo")
	b.addUsage(t, gone, "", "now()", "p", "m", [4]int64{1, 1, 1, 1})
	b.drain(t)
	exec(t, b.pool, `DELETE FROM public.task_usage u USING public.agent_task_queue t WHERE t.id = u.task_id AND t.runtime_id = $1`, gone)
	b.drain(t)
	pending := b.addRuntime(t, "UTC")
	b.rebuild(t, b.pool, pending)
	b.setZone(t, pending, "Asia/Tokyo")
	for name, runtime := range map[string]string{"never counted": never, "old": old, "deleted": gone, "pending": pending} {
		a := b.get(t, owner, usagePath(runtime, "days=365"))
		a.require(t, http.StatusOK)
		if a.body != "[]\n" {
			t.Errorf("%s: body is %q", name, a.body)
		}
		if got := a.header.Get("Daybook-Timezone"); got != "Asia/Tokyo" {
			t.Errorf("%s: zone is %q", name, got)
		}
	}
}

// zones are the extremes of the world, some odd ones, and one that only POSIX rules make possible.
var zones = []string{
	"UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "America/Havana", "Australia/Lord_Howe", "X-100", "X+100",
}

func TestWindow(t *testing.T) {
	t.Parallel()
	for _, zone := range zones {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.onOneDay(t, zone, func() string { return b.compareWindows(t, zone, true) + b.compareWindows(t, zone, false) })
		})
	}
}

// compareWindows says how answers differ from what they must be, for rows at the very edges of windows.
func (b *bundle) compareWindows(t *testing.T, zone string, built bool) (difference string) {
	t.Helper()
	source, first := "rollup", zone
	if !built {
		source, first = "live", "Europe/Paris"
	}
	runtime := b.addRuntime(t, first)
	today := `(now() AT TIME ZONE z)::date`
	midnight := func(days int) string { return fmt.Sprintf(`(%s - %d)::timestamp AT TIME ZONE z`, today, days) }
	one := [4]int64{1, 2, 3, 4}
	for _, days := range []int{1, 7, 90, 365} {
		b.addUsage(t, runtime, zone, midnight(days), "p", fmt.Sprintf("first moment of %d", days), one)
		b.addUsage(t, runtime, zone, midnight(days)+` - interval '1 microsecond'`, "p", fmt.Sprintf("last moment before %d", days), one)
	}
	b.addUsage(t, runtime, zone, midnight(0), "p", "first moment of today", one)
	b.addUsage(t, runtime, zone, `now()`, "p", "now", one)
	b.addUsage(t, runtime, zone, midnight(-1)+` - interval '1 microsecond'`, "p", "last moment of today", one)
	b.addUsage(t, runtime, zone, midnight(-1), "p", "tomorrow", one)
	b.addUsage(t, runtime, zone, `now() + interval '1000 days'`, "p", "future", one)
	b.drain(t)
	if !built {
		b.setZone(t, runtime, zone)
	}
	type key struct{ date, model string }
	for _, days := range []int{1, 7, 90, 365} {
		a := b.get(t, owner, usagePath(runtime, fmt.Sprintf("days=%d", days)))
		a.require(t, http.StatusOK)
		if a.body != b.plainUsage(t, runtime, zone, days) {
			difference += fmt.Sprintf("%s, %d days: body is\n%swant\n%s", source, days, a.body, b.plainUsage(t, runtime, zone, days))
		}
		if a.header.Get("Daybook-Source") != source || a.header.Get("Daybook-Timezone") != zone {
			difference += fmt.Sprintf("%s, %d days: header is %v", source, days, a.header)
		}
		found := make(map[key]bool)
		for _, row := range rowsOf(t, a) {
			found[key{row.Date, row.Model}] = true
		}
		edge := query[string](t, b.pool, `SELECT ((now() AT TIME ZONE $1)::date - $2::integer)::text`, zone, days)
		if !found[key{edge, fmt.Sprintf("first moment of %d", days)}] {
			difference += fmt.Sprintf("%s, %d days: the first moment of %s is not counted\n", source, days, edge)
		}
		for k := range found {
			if k.date < edge || k.model == fmt.Sprintf("last moment before %d", days) {
				difference += fmt.Sprintf("%s, %d days: %v is counted\n", source, days, k)
			}
		}
		for _, model := range []string{"tomorrow", "future", "now", "first moment of today", "last moment of today"} {
			date := query[string](t, b.pool, `
				SELECT CASE $2
					WHEN 'tomorrow' THEN (now() AT TIME ZONE $1)::date + 1
					WHEN 'future' THEN ((now() + interval '1000 days') AT TIME ZONE $1)::date
					ELSE (now() AT TIME ZONE $1)::date END::text`, zone, model)
			if !found[key{date, model}] {
				difference += fmt.Sprintf("%s, %d days: %s of %s is not counted\n", source, days, model, date)
			}
		}
	}
	return difference
}

// Postgres may read buckets in any order, here in that of their rows.
func TestStartsAreInTheOrderOfHours(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	for _, hour := range []string{"20:10", "03:10", "23:10", "00:10"} {
		b.addTask(t, runtime, "running", "'2025-05-01 "+hour+"Z'", "NULL")
		b.drain(t)
	}
	b = serve(t, testdb.Open(t, b.pool, func(c *pgxpool.Config) {
		for _, setting := range []string{"enable_indexscan", "enable_indexonlyscan"} {
			c.ConnConfig.RuntimeParams[setting] = "off"
		}
	}))
	b.requireBody(t, "/api/runtimes/"+runtime+"/activity", `[{"hour":0,"count":1},{"hour":3,"count":1},{"hour":20,"count":1},{"hour":23,"count":1}]`+"\n")
}
