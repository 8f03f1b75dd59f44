package rollup_test

import (
	"testing"

	"daybook/internal/testdb"
)

// Each row of usage falls on the calendar day, and in the hour, that a clock on the wall of the runtime shows.
func TestBucketDates(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, zone string
		// rows maps an instant to the date and hour expected.
		rows map[string]string
	}{
		{"a day of 23 hours", "America/New_York", map[string]string{
			"2025-03-09 04:59:59Z": "2025-03-08 23", "2025-03-09 05:00Z": "2025-03-09 0",
			"2025-03-10 03:59:59Z": "2025-03-09 23", "2025-03-10 04:00Z": "2025-03-10 0",
		}},
		{"a day of 25 hours", "America/New_York", map[string]string{
			"2025-11-02 03:59:59Z": "2025-11-01 23", "2025-11-02 04:00Z": "2025-11-02 0",
			"2025-11-02 05:30Z": "2025-11-02 1", "2025-11-02 06:30:00Z": "2025-11-02 1",
			"2025-11-03 04:59:59Z": "2025-11-02 23", "2025-11-03 05:00Z": "2025-11-03 0",
		}},
		{"a day of 24.5 hours", "Australia/Lord_Howe", map[string]string{
			"2025-04-05 12:59:59Z": "2025-04-05 23", "2025-04-05 13:00Z": "2025-04-06 0",
			"2025-04-06 13:29:59Z": "2025-04-06 23", "2025-04-06 13:30Z": "2025-04-07 0",
		}},
		{"a date that never was", "Pacific/Apia", map[string]string{
			"2011-12-30 09:59:59Z": "2011-12-29 23", "2011-12-30 10:00Z": "2011-12-31 0",
		}},
		{"no midnight, Cairo", "Africa/Cairo", map[string]string{
			"2025-04-24 21:59:59Z": "2025-04-24 23", "2025-04-24 22:00Z": "2025-04-25 1",
			"2025-04-25 20:59:59Z": "2025-04-25 23", "2025-04-25 21:00Z": "2025-04-26 0",
		}},
		{"back at midnight, Cairo", "Africa/Cairo", map[string]string{
			"2025-10-30 20:59:59Z": "2025-10-30 23", "2025-10-30 21:00Z": "2025-10-30 23", "2025-10-30 22:00Z": "2025-10-31 0",
		}},
		{"no midnight, Havana", "America/Havana", map[string]string{
			"2025-03-09 04:59:59Z": "2025-03-08 23", "2025-03-09 05:00Z": "2025-03-09 1",
		}},
		{"midnight twice, Havana", "America/Havana", map[string]string{
			"2025-11-02 03:59:59Z": "2025-11-01 23", "2025-11-02 04:00Z": "2025-11-02 0", "2025-11-02 05:00Z": "2025-11-02 0",
			"2025-11-02 06:00Z": "2025-11-02 1",
		}},
		{"back across midnight, St. John's", "America/St_Johns", map[string]string{
			"2006-10-29 02:30:30Z": "2006-10-29 0", "2006-10-29 02:45Z": "2006-10-28 23", "2006-10-29 03:30Z": "2006-10-29 0",
		}},
		{"half past", "Asia/Kolkata", map[string]string{
			"2025-06-01 18:29:59Z": "2025-06-01 23", "2025-06-01 18:30Z": "2025-06-02 0",
		}},
		{"a quarter to", "Asia/Kathmandu", map[string]string{
			"2025-06-01 18:14:59Z": "2025-06-01 23", "2025-06-01 18:15Z": "2025-06-02 0",
		}},
		{"unknown to Postgres", "Local", map[string]string{
			"2025-06-01 23:59:59Z": "2025-06-01 23", "2025-06-02 00:00Z": "2025-06-02 0",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			// Once counted by a drain, once by the rebuild after the zone changed to it.
			drained, rebuilt := setup(t, test.zone), setup(t, "Pacific/Kiritimati")
			for _, h := range []*host{drained, rebuilt} {
				for at := range test.rows {
					// A model for each instant, to find the row again.
					h.exec(`INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at)
						VALUES ($1, 'p', $2::text, 1, $2::text::timestamptz)`, h.newTask(), at)
				}
				h.settle()
			}
			rebuilt.exec(`UPDATE public.agent_runtime SET timezone = $1`, test.zone)
			rebuilt.settle()
			for _, h := range []*host{drained, rebuilt} {
				for at, want := range test.rows {
					got := scalar[string](t, h.pool, `SELECT bucket_date || ' ' || hour FROM daybook.task_usage_daily_by_hour WHERE model = $1`, at)
					if got != want {
						t.Errorf("%s in %s: got %s, want %s", at, test.zone, got, want)
					}
					date := scalar[string](t, h.pool, `SELECT bucket_date::text FROM daybook.task_usage_daily WHERE model = $1`, at)
					if date != want[:10] {
						t.Errorf("%s in %s: got day %s, want %s", at, test.zone, date, want[:10])
					}
				}
				testdb.RequireExact(t, h.pool)
			}
		})
	}
}

// A task with two rows of one model counts once in every window, also where the later instant has the earlier date.
func TestTaskCountsWhereDatesGoBack(t *testing.T) {
	t.Parallel()
	h := setup(t, "America/St_Johns")
	task := h.newTask()
	h.use(task, "first", "2006-10-29 02:30:30Z")  // 29 October, 00:00:30
	h.use(task, "second", "2006-10-29 02:45:00Z") // 28 October, 23:15
	h.settle()
	testdb.RequireExact(t, h.pool)
	got := scalar[string](t, h.pool, `SELECT bucket_date::text FROM daybook.task_usage_daily_by_agent WHERE task_count = 1`)
	if got != "2006-10-29" {
		t.Errorf("the task counts on %s, want 2006-10-29", got)
	}
	// The rebuild must agree with the drain, or what the drain takes back later is not what the rebuild put there.
	h.exec(`UPDATE public.agent_runtime SET timezone = 'UTC'`)
	h.settle()
	h.exec(`UPDATE public.agent_runtime SET timezone = 'America/St_Johns'`)
	h.settle()
	h.exec(`DELETE FROM public.task_usage WHERE provider = 'first'`)
	h.settle()
	testdb.RequireExact(t, h.pool)
}

func TestUnknownZoneIsReportedAndStopsNobody(t *testing.T) {
	t.Parallel()
	h := setup(t, "Local")
	h.use(h.newTask(), "p", "2025-06-01 12:00Z")
	other := h.newRuntime("Asia/Kolkata")
	h.use(h.id(`INSERT INTO public.agent_task_queue (agent_id, runtime_id) VALUES ($1, $2) RETURNING id`, h.agent, other),
		"p", "2025-06-01 12:00Z")
	result := h.settle()
	if len(result.RejectedZones) != 1 || result.RejectedZones[0].RuntimeID != h.runtime || result.RejectedZones[0].Timezone != "Local" {
		t.Errorf("rejected zones: %+v, want Local of %s", result.RejectedZones, h.runtime)
	}
	testdb.RequireExact(t, h.pool)
}
