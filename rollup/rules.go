package rollup

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// unknownRules is the fingerprint of a zone that Postgres does not know any more.
const unknownRules = "unknown"

// ChangedRules is a zone whose rules have changed.
type ChangedRules struct {
	Timezone string
	// Runtimes are those whose buckets are not right by the new rules. Their rebuild is requested.
	Runtimes []pgtype.UUID
}

// CheckZoneRules compares the rules of the zones in use with those that buckets were built with, and requests rebuilds of the runtimes
// whose buckets are wrong by the new ones, and of no others. A zone that is seen for the first time is noted as it is. Of several checks
// at once one returns a change.
//
// A server process keeps the rules that it has read, so db must be a new connection. Those that are older may go on with the old
// rules until they end: the runtimes of a changed zone are also put first in the order of verification.
func CheckZoneRules(ctx context.Context, db DB) ([]ChangedRules, error) {
	var zones []queries.CompareZoneRulesRow
	err := inTx(ctx, db, func(tx pgx.Tx) (err error) {
		q := queries.New(tx)
		if err := q.PrepareList(ctx, prepareList); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		zones, err = q.CompareZoneRules(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare zone rules: %w", err)
	}
	var changed []ChangedRules
	for _, zone := range zones {
		if zone.Noted.Valid && zone.Noted.String == zone.Fingerprint {
			continue
		}
		rules := ChangedRules{Timezone: zone.Timezone}
		differ := zone.Noted.Valid || zone.Fingerprint == unknownRules
		if differ {
			rules.Runtimes, err = requestRebuildsOfZone(ctx, db, zone)
			if err != nil {
				return changed, fmt.Errorf("rules of %s: %w", zone.Timezone, err)
			}
		}
		var noted int64
		err = inTx(ctx, db, func(tx pgx.Tx) (err error) {
			noted, err = queries.New(tx).NoteZoneRules(ctx, queries.NoteZoneRulesParams{
				Timezone: zone.Timezone, Fingerprint: zone.Fingerprint, Changed: differ,
			})
			return err
		})
		if err != nil {
			return changed, fmt.Errorf("note the rules of %s: %w", zone.Timezone, err)
		}
		if noted > 0 {
			changed = append(changed, rules)
		}
	}
	err = inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		found, err := q.ListRuntimesOfNewZones(ctx)
		if err != nil {
			return fmt.Errorf("list runtimes of new zones: %w", err)
		}
		if err := q.RequestRebuilds(ctx, found); err != nil {
			return fmt.Errorf("request rebuilds: %w", err)
		}
		return q.NoteZoneCheck(ctx)
	})
	if err != nil {
		return changed, fmt.Errorf("check zone rules: %w", err)
	}
	return changed, nil
}

// requestRebuildsOfZone requests rebuilds of the runtimes of a zone whose buckets differ from their facts, or of all of them if the zone
// is not known any more, and returns them. Each is asked for at once, so that nothing is lost when this is stopped.
func requestRebuildsOfZone(ctx context.Context, db DB, zone queries.CompareZoneRulesRow) ([]pgtype.UUID, error) {
	var runtimes, wrong []pgtype.UUID
	err := inTx(ctx, db, func(tx pgx.Tx) (err error) {
		runtimes, err = queries.New(tx).ListRuntimesOfZone(ctx, zone.Timezone)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list runtimes: %w", err)
	}
	for _, runtime := range runtimes {
		differs := zone.Fingerprint == unknownRules
		if !differs {
			err := inSnapshot(ctx, db, false, func(q *queries.Queries) error {
				found, err := q.CompareRuntimeBuckets(ctx, queries.CompareRuntimeBucketsParams{RuntimeIds: []pgtype.UUID{runtime}, MaxDifferences: 1})
				differs = len(found) > 0
				return err
			})
			if err != nil {
				return wrong, fmt.Errorf("compare buckets: %w", err)
			}
		}
		err := inTx(ctx, db, func(tx pgx.Tx) error {
			q := queries.New(tx)
			if differs {
				if err := q.RequestRebuilds(ctx, []pgtype.UUID{runtime}); err != nil {
					return fmt.Errorf("request rebuild: %w", err)
				}
			}
			return q.RequestVerifications(ctx, []pgtype.UUID{runtime})
		})
		if err != nil {
			return wrong, err
		}
		if differs {
			wrong = append(wrong, runtime)
		}
	}
	return wrong, nil
}
