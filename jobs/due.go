package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// dueAtOnce makes every job due, whatever clocks say. River takes the time at which a job is due from the clock of the machine that
// inserts it, and fetches jobs by the clock of the database: where that one is behind, nothing would be done for as long.
type dueAtOnce struct {
	river.HookDefaults
}

// InsertBegin is called by River before it inserts a job. All jobs are due since the same time, so they are fetched in the order of their ids.
func (*dueAtOnce) InsertBegin(_ context.Context, params *rivertype.JobInsertParams) error {
	params.ScheduledAt = new(time.Unix(0, 0))
	return nil
}
