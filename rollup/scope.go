package rollup

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"daybook/queries"
)

// maxScopes bounds the scopes of one transaction, not the tasks in them.
const maxScopes = 100

// ExpandScopes turns every change that concerns many tasks at once (an issue that moved to another project, a TRUNCATE) into
// dirty entries, one for each task, and returns their number.
//
// It looks the tasks up after the change was committed. A task that is not visible yet has an entry of its own, which is
// drained after it commits, and then sees the change.
func ExpandScopes(ctx context.Context, db DB) (int64, error) {
	var marked int64
	for {
		claimed := 0
		err := inTx(ctx, db, func(tx pgx.Tx) error {
			q := queries.New(tx)
			if err := q.PrepareList(ctx, prepareList); err != nil {
				return err
			}
			scopes, err := q.ClaimDirtyScopes(ctx, maxScopes)
			if err != nil || len(scopes) == 0 {
				return err
			}
			claimed = len(scopes)
			for _, mark := range []func(context.Context, []int64) (int64, error){
				q.MarkTasksOfIssues, q.MarkTasksOfAgents, q.MarkAllTasks,
			} {
				n, err := mark(ctx, scopes)
				if err != nil {
					return err
				}
				marked += n
			}
			return q.DeleteDirtyScopes(ctx, scopes)
		})
		if isLockConflict(err) {
			return marked, nil // The scopes stay for the next call.
		}
		if err != nil {
			return marked, fmt.Errorf("expand scopes: %w", err)
		}
		if claimed < maxScopes {
			return marked, nil
		}
	}
}
