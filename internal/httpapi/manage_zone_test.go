package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"daybook/internal/httpapi"
	"daybook/rollup"
)

// zonePatterns are the endpoints whose days or hours are those of a runtime's zone.
var zonePatterns = usagePatterns[:4]

// patchedZones differ from each other, and from Europe/Berlin, on every day of the year.
var patchedZones = []string{
	"Pacific/Kiritimati", "America/New_York", "Asia/Kathmandu", "Pacific/Pago_Pago", "UTC", "Pacific/Chatham",
}

// addUneven adds usage at every hour of a week, in which no hour of the day has what another has: each zone shows other days and other
// hours.
func (b *bundle) addUneven(t *testing.T, runtime string) {
	t.Helper()
	exec(t, b.pool, `
		WITH task AS (
			INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at)
			SELECT a.id, a.runtime_id, 'running', now() - interval '1 hour' * h
			FROM public.agent a, generate_series(0, 167) h, generate_series(1, CASE h % 24 WHEN 3 THEN 3 WHEN 10 THEN 2 ELSE 1 END) n
			WHERE a.runtime_id = $1
			RETURNING id, started_at
		)
		INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at)
		SELECT id, 'p', m, extract(epoch FROM now() - started_at) / 3600, started_at FROM task, unnest('{large,small}'::text[]) m`, runtime)
}

func zoneBody(t *testing.T, zone string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"timezone": zone})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestTheNextReadIsInTheNewZone(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	fromSource := serve(t, b.pool, func(c *httpapi.Config) { c.Source = httpapi.SourceHost })
	id := b.addRuntime(t, "Europe/Berlin")
	b.addUneven(t, id)
	b.drain(t)
	for _, zone := range patchedZones[:4] {
		b.onOneDay(t, zone, func() (difference string) {
			// Each round begins in another zone, for a change to the zone that it has is nothing to wait for.
			b.setZone(t, id, "Europe/Berlin")
			b.rebuild(t, b.pool, id)
			exec(t, b.pool, `DELETE FROM daybook.runtime_rebuild`)
			before := make(map[string]string)
			for _, pattern := range zonePatterns {
				before[pattern] = b.get(t, member, pathOf(pattern, id)).body
			}
			b.patch(t, owner, id, zoneBody(t, zone)).require(t, http.StatusOK)
			compare := func(source string) {
				for _, pattern := range zonePatterns {
					for _, suffix := range []string{"", ".csv"} {
						path := pathOf(pattern, id) + suffix
						a, want := b.get(t, member, path), fromSource.get(t, member, path)
						if a.status != http.StatusOK || a.header.Get("Daybook-Timezone") != zone || a.header.Get("Daybook-Source") != source {
							t.Errorf("%s, %s: status is %d, header %v", path, zone, a.status, a.header)
						}
						if a.body != want.body {
							difference += fmt.Sprintf("%s, %s, %s: body is\n%swant\n%s", path, zone, source, a.body, want.body)
						}
						// By agent there is no day and no hour to be seen.
						if a.body == before[pattern] && pattern != "/api/runtimes/{runtimeId}/usage/by-agent" {
							t.Errorf("%s: %s makes no difference, so this tests nothing", path, zone)
						}
					}
				}
			}
			compare("live")
			// The rebuild is asked for, and changes nothing that is seen.
			if n := query[int](t, b.pool, `SELECT count(*)::int FROM daybook.runtime_rebuild WHERE runtime_id = $1`, id); n == 0 {
				t.Errorf("%s: no rebuild is requested", zone)
			}
			b.rebuild(t, b.pool, id)
			compare("rollup")
			return difference
		})
	}
}

// moving is a runtime whose zone changes all the time.
type moving struct {
	id string
	// The zone of change i is patchedZones[i % len]. Begun is the last change that was asked for, answered the last whose answer has
	// come. A read that begins after an answer and ends before a question can be in no other zone than those in between.
	begun, answered, reads atomic.Int64
}

// From the answer to a PATCH on, no read shows the old zone, and none is wrong, whoever reads and rebuilds meanwhile.
func TestReadersWhileZonesChange(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	fromSource := serve(t, b.pool, func(c *httpapi.Config) { c.Source = httpapi.SourceHost })
	runtimes := []*moving{{id: b.addRuntime(t, patchedZones[0])}, {id: b.addRuntime(t, patchedZones[0])}}
	type key struct{ runtime, pattern, zone string }
	want := make(map[key]string)
	for _, m := range runtimes {
		b.addUneven(t, m.id)
	}
	b.drain(t)
	// All rows are far from the edges of windows, so no midnight changes what is expected. Only by agent there is no day and no hour to be
	// seen.
	for _, m := range runtimes {
		for _, zone := range patchedZones {
			b.setZone(t, m.id, zone)
			for _, pattern := range zonePatterns {
				a := fromSource.get(t, owner, pathOf(pattern, m.id))
				a.require(t, http.StatusOK)
				want[key{m.id, pattern, zone}] = a.body
			}
		}
		b.setZone(t, m.id, patchedZones[0])
	}

	const changes, readers = 16, 2
	header := bearer(t, owner)
	done := make(chan struct{})
	var changing, group sync.WaitGroup
	var live, built atomic.Int64
	for _, m := range runtimes {
		for n := range readers {
			group.Go(func() {
				for i := n; ; i++ {
					select {
					case <-done:
						return
					default:
					}
					pattern := zonePatterns[i%len(zonePatterns)]
					first := m.answered.Load()
					a, err := b.send(t.Context(), http.MethodGet, pathOf(pattern, m.id), header)
					last := m.begun.Load()
					if err != nil || a.status != http.StatusOK {
						t.Errorf("status is %d, %v", a.status, err)
						m.reads.Add(1)
						continue
					}
					zone, known := a.header.Get("Daybook-Timezone"), false
					for change := first; change <= last; change++ {
						known = known || zone == patchedZones[change%int64(len(patchedZones))]
					}
					if !known {
						t.Errorf("%s: a read from change %d to %d is in %s", pattern, first, last, zone)
					}
					if a.body != want[key{m.id, pattern, zone}] {
						t.Errorf("%s, %s, %s: body is\n%swant\n%s", pattern, zone, a.header.Get("Daybook-Source"), a.body, want[key{m.id, pattern, zone}])
					}
					if a.header.Get("Daybook-Source") == "live" {
						live.Add(1)
					} else {
						built.Add(1)
					}
					m.reads.Add(1)
				}
			})
		}
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// It may be busy, which is as good.
				if _, err := rollup.Rebuild(t.Context(), b.pool, uuid(t, m.id)); err != nil {
					t.Error(err)
					return
				}
			}
		})
		changing.Go(func() {
			for i := int64(1); i <= changes; i++ {
				m.begun.Store(i)
				a, err := b.sendBody(t.Context(), http.MethodPatch, "/api/runtimes/"+m.id, header, zoneBody(t, patchedZones[i%int64(len(patchedZones))]))
				if err != nil || a.status != http.StatusOK {
					t.Errorf("change %d: status is %d, %v, body %s", i, a.status, err, a.body)
					return
				}
				m.answered.Store(i)
				// Each zone is read for a while.
				for until := m.reads.Load() + 2*readers; m.reads.Load() < until && !t.Failed(); {
					if err := b.pool.Ping(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	changing.Wait()
	close(done)
	group.Wait()
	if live.Load() == 0 || built.Load() == 0 {
		t.Errorf("%d reads of the ledger and %d of rollups, so one of them is not tested", live.Load(), built.Load())
	}
}
