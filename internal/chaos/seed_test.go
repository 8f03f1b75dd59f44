//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"daybook/internal/history"
	"daybook/internal/testdb"
)

// faultSpan is the time in which the faults of a plan begin. A history takes about as long.
const faultSpan = 1500 * time.Millisecond

// TestSeeds plays random histories under two workers with faults, one seed after the other. What happens follows from the seed;
// how it interleaves does not.
//
//nolint:tparallel // One seed after the other, so that the one that fails is the last.
func TestSeeds(t *testing.T) {
	t.Parallel()
	first, count := uint64(1), orElse(*seedCount, byLength(200, 5))
	if *onlySeed != 0 {
		first, count = *onlySeed, 1
	}
	var recovered, settled []time.Duration
	faults := 0
	for seed := first; seed < first+uint64(count); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			plan := drawPlan(seed, faultSpan)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the plan was:\n%s\nplay it again with: make chaos CHAOSFLAGS='-run TestSeeds -seed %d'", planOf(plan), seed)
				}
			})
			r, s := playSeed(t, seed, plan)
			recovered, settled = append(recovered, r), append(settled, s)
			faults += len(plan)
		})
		if t.Failed() {
			return // The seed that failed is the last one, and easy to find.
		}
	}
	const name = "random histories with faults"
	note(t, name, "seeds in a row, each exact", fmt.Sprintf("%d seeds, %d faults", len(settled), faults), "all")
	noteTime(t, name, "longest until the lag was under 3 s again", slices.Max(recovered), recovery)
	noteTime(t, name, "longest until nothing was left to do", slices.Max(settled), recovery)
}

func playSeed(t *testing.T, seed uint64, plan []fault) (recovered, settled time.Duration) {
	t.Helper()
	pool := testdb.New(t)
	v := &victims{pool: pool, network: newNetwork(t, pool)}
	v.workers = [2]*worker{startWorker(t, urlOf(t, pool)), startWorker(t, v.network.url)}
	watch := watchLag(t, pool)

	group, ctx := errgroup.WithContext(t.Context())
	begin := time.Now()
	group.Go(func() error {
		for n := uint64(0); n == 0 || time.Since(begin) < faultSpan; n++ {
			if err := history.Play(ctx, pool, history.Config{Seed: seed<<8 + n, Transactions: 25}); err != nil {
				return err
			}
		}
		return nil
	})
	// One worker's faults come one after the other, as those of the network do; else a restart meets a restart.
	for _, mine := range byVictim(plan) {
		group.Go(func() error { return suffer(ctx, v, mine, begin) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	v.network.heal()
	for _, w := range v.workers {
		w.signal(syscall.SIGCONT)
	}
	healed := time.Now()
	settled = awaitSettled(t, pool)
	_, recovered = watch.ends(healed)
	requireExact(t, pool)
	verify := startWorker(t, urlOf(t, pool), "verify")
	if code := verify.wait(); code != 0 {
		t.Errorf("worker verify exited with %d", code)
	}
	retire(t, v.workers[:]...)
	return recovered, settled
}

func planOf(plan []fault) string {
	var b strings.Builder
	for _, f := range plan {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// byVictim splits a plan into faults of each worker, of the network and of the database.
func byVictim(plan []fault) [4][]fault {
	var split [4][]fault
	for _, f := range plan {
		switch {
		case f.kind < 3:
			split[f.worker] = append(split[f.worker], f)
		case f.kind >= 5 && f.kind < 8:
			split[2] = append(split[2], f)
		default:
			split[3] = append(split[3], f)
		}
	}
	return split
}

func suffer(ctx context.Context, v *victims, plan []fault, begin time.Time) error {
	for _, f := range plan {
		passes(ctx, time.Until(begin.Add(f.at)))
		if ctx.Err() != nil {
			return nil //nolint:nilerr // Another has failed, and says why.
		}
		if err := faultKinds[f.kind].do(ctx, v, f); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
	}
	return nil
}
