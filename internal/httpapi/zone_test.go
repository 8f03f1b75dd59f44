package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/rollup"
)

func rowsOf(t *testing.T, a answer) []usageRow {
	t.Helper()
	var rows []usageRow
	if err := json.Unmarshal([]byte(a.body), &rows); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return rows
}

// addHours adds usage at every hour of a week, so that each change of the zone moves some of it to another day.
func (b *bundle) addHours(t *testing.T, runtime string) {
	t.Helper()
	exec(t, b.pool, `
		WITH task AS (
			INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at)
			SELECT a.id, a.runtime_id, 'running', now() - interval '1 hour' * h
			FROM public.agent a, generate_series(0, 167) h WHERE a.runtime_id = $1
			RETURNING id, started_at
		)
		INSERT INTO public.task_usage
			(task_id, provider, model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at)
		SELECT id, 'p', m, 1, 10, 100, 1000, started_at FROM task, unnest('{large,small}'::text[]) m`, runtime)
}

func TestNewZoneShowsAtOnce(t *testing.T) {
	t.Parallel()
	const first, second = "America/New_York", "Pacific/Kiritimati"
	b := setup(t)
	b.onOneDay(t, second, func() string {
		runtime := b.addRuntime(t, first)
		b.addHours(t, runtime)
		b.drain(t)
		before := b.get(t, owner, usagePath(runtime, ""))
		b.setZone(t, runtime, second)
		live := b.get(t, owner, usagePath(runtime, ""))
		b.rebuild(t, b.pool, runtime)
		built := b.get(t, owner, usagePath(runtime, ""))
		for _, step := range []struct {
			answer       answer
			source, zone string
		}{{before, "rollup", first}, {live, "live", second}, {built, "rollup", second}} {
			step.answer.require(t, http.StatusOK)
			if got := step.answer.header.Get("Daybook-Source"); got != step.source {
				t.Errorf("source is %q, want %q", got, step.source)
			}
			if got := step.answer.header.Get("Daybook-Timezone"); got != step.zone {
				t.Errorf("zone is %q, want %q", got, step.zone)
			}
		}
		want := b.plainUsage(t, runtime, second, 90)
		if before.body == want {
			t.Error("the zones make no difference, so this tests nothing")
		}
		if live.body != want || built.body != want {
			return "live:\n" + live.body + "built:\n" + built.body + "want:\n" + want
		}
		return ""
	})
}

func TestZoneThatGoesBackNeedsNoRebuild(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "Asia/Tokyo")
	b.addHours(t, runtime)
	b.drain(t)
	b.setZone(t, runtime, "America/New_York")
	b.setZone(t, runtime, "Asia/Tokyo")
	b.onOneDay(t, "Asia/Tokyo", func() string {
		a := b.get(t, owner, usagePath(runtime, ""))
		a.require(t, http.StatusOK)
		if want := b.plainUsage(t, runtime, "Asia/Tokyo", 90); a.body != want || a.header.Get("Daybook-Source") != "rollup" {
			return a.header.Get("Daybook-Source") + "\n" + a.body + want
		}
		return ""
	})
}

func TestUnknownZoneCountsAsUTC(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, zone := range []string{"Local", "", "Mars/Olympus_Mons", "' OR true --"} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			runtime := b.addRuntime(t, "Asia/Tokyo")
			b.addHours(t, runtime)
			// Another test of this host may drain the same shard at the same moment, so what is awaited is the ledger.
			for query[int](t, b.pool, `SELECT count(*)::int FROM daybook.task_usage_fact WHERE runtime_id = $1`, runtime) < 2*168 {
				for shard := range int16(16) {
					if _, err := rollup.Drain(t.Context(), b.pool, []int16{shard}, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			b.setZone(t, runtime, zone)
			b.onOneDay(t, "UTC", func() string {
				live := b.get(t, owner, usagePath(runtime, ""))
				b.rebuild(t, b.pool, runtime)
				built := b.get(t, owner, usagePath(runtime, ""))
				for source, a := range map[string]answer{"live": live, "rollup": built} {
					a.require(t, http.StatusOK)
					if a.header.Get("Daybook-Timezone") != "UTC" || (source == "rollup" && a.header.Get("Daybook-Source") != source) {
						t.Errorf("%s: header is %v", source, a.header)
					}
				}
				if want := b.plainUsage(t, runtime, "UTC", 90); live.body != want || built.body != want {
					return "live:\n" + live.body + "built:\n" + built.body + "want:\n" + want
				}
				return ""
			})
		})
	}
}

// heldDB begins transactions whose commit waits.
type heldDB struct {
	pool             *pgxpool.Pool
	reached, release chan struct{}
}

func (db heldDB) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := db.pool.BeginTx(ctx, options)
	return heldTx{tx, db}, err
}

type heldTx struct {
	pgx.Tx
	db heldDB
}

func (tx heldTx) Commit(ctx context.Context) error {
	close(tx.db.reached)
	<-tx.db.release
	return tx.Tx.Commit(ctx)
}

// state is an answer in full.
type state struct{ zone, source, body string }

func TestReadersNeverSeeHalfARebuild(t *testing.T) {
	t.Parallel()
	const first, second, third = "America/New_York", "Pacific/Kiritimati", "Asia/Kathmandu"
	b := setup(t)
	b.onOneDay(t, third, func() string {
		runtime := b.addRuntime(t, first)
		b.addHours(t, runtime)
		b.drain(t)
		allowed := make(map[state]string)
		for _, zone := range []string{first, second, third} {
			body := b.plainUsage(t, runtime, zone, 90)
			allowed[state{zone, "rollup", body}] = zone + " rollup"
			allowed[state{zone, "live", body}] = zone + " live"
		}

		const readers = 4
		seen := make(chan state)
		stop := make(chan struct{})
		var group sync.WaitGroup
		defer func() {
			close(stop)
			group.Wait()
		}()
		header := http.Header{"Authorization": {"Bearer " + token(t, owner)}}
		for range readers {
			group.Go(func() {
				for {
					a, err := b.send(t.Context(), http.MethodGet, usagePath(runtime, ""), header)
					if err != nil {
						t.Error(err)
					}
					select {
					case seen <- state{a.header.Get("Daybook-Timezone"), a.header.Get("Daybook-Source"), a.body}:
					case <-stop:
						return
					}
				}
			})
		}
		// read takes answers until one is of the kind, and then some more. The first ones may be from before the last change.
		difference := ""
		read := func(kind string) {
			for more := 5 * readers; more > 0 && difference == ""; {
				s := <-seen
				switch name := allowed[s]; {
				case name == "":
					difference = "neither state: " + s.zone + " " + s.source + "\n" + s.body
				case name == kind || more < 5*readers:
					more--
				}
			}
		}
		rebuildHeld := func(meanwhile func()) {
			db := heldDB{b.pool, make(chan struct{}), make(chan struct{})}
			done := make(chan error, 1)
			go func() {
				result, err := rollup.Rebuild(t.Context(), db, uuid(t, runtime))
				if result.Busy {
					err = errors.New("the runtime is busy")
				}
				done <- err
			}()
			select {
			case <-db.reached:
			case err := <-done:
				t.Fatalf("rebuild: %v", err)
			}
			meanwhile()
			close(db.release)
			if err := <-done; err != nil {
				t.Errorf("rebuild: %v", err)
			}
		}

		read(first + " rollup")
		b.setZone(t, runtime, second)
		read(second + " live")
		rebuildHeld(func() { read(second + " live") })
		read(second + " rollup")
		// The zone changes again while a rebuild for the one before is about to commit.
		b.setZone(t, runtime, first)
		rebuildHeld(func() {
			b.setZone(t, runtime, third)
			read(third + " live")
		})
		read(third + " live")
		b.rebuild(t, b.pool, runtime)
		read(third + " rollup")
		return difference
	})
}
