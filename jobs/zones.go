package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"

	"daybook/internal/postgres"
	"daybook/queries"
	"daybook/rollup"
)

const (
	// zonesPeriod is the time between two comparisons of the rules of time zones. A new start of the server asks for one at once.
	zonesPeriod = 10 * time.Minute
)

// ZonesArgs are those of the job that looks for changed rules of time zones.
type ZonesArgs struct {
	// Tick is the second of the tick that asked for it, by the database's clock.
	Tick int64 `json:"tick"`
}

// Kind is River's name for the job.
func (ZonesArgs) Kind() string { return "daybook_zones" }

// InsertOpts is the same for every check.
func (ZonesArgs) InsertOpts() river.InsertOpts { return insertOpts(queueDrain, unfinished) }

type zonesWorker struct {
	river.WorkerDefaults[ZonesArgs]
	fleet *Fleet
}

func (w *zonesWorker) Timeout(*river.Job[ZonesArgs]) time.Duration { return rebuildTimeout }

// Work has a connection of its own, for those of the pool keep the rules that they have read.
func (w *zonesWorker) Work(ctx context.Context, _ *river.Job[ZonesArgs]) error {
	due, err := w.fleet.zoneCheckDue(ctx)
	if err != nil || !due {
		return err
	}
	conn, err := postgres.Connect(ctx, w.fleet.config.Pool)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // Nothing depends on it.
	changed, err := rollup.CheckZoneRules(ctx, conn)
	for _, c := range changed {
		w.fleet.config.Logger.Warn("the rules of a time zone have changed; rebuilding the runtimes whose buckets are concerned",
			slog.String("timezone", c.Timezone), slog.Int("runtimes", len(c.Runtimes)))
	}
	return err
}

func (f *Fleet) zoneCheckDue(ctx context.Context) (bool, error) {
	fresh, err := queries.New(f.config.Pool).IsZoneCheckFresh(ctx, zonesPeriod.Seconds())
	if err != nil {
		return false, fmt.Errorf("ask when zones were checked: %w", err)
	}
	return !fresh, nil
}

// renewConnections replaces all connections by new ones if rules of time zones have changed since the last call: the server processes behind
// them may have read the old rules. Transactions that are at work come to their end.
func (f *Fleet) renewConnections(zoneRevision int64) {
	if f.zoneRevision != nil && *f.zoneRevision != zoneRevision {
		f.config.Pool.Reset()
	}
	f.zoneRevision = &zoneRevision
}
