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
// whose buckets are wrong by the new ones, and of no others. A zone that is seen for the first time is noted as it is.
//
// A server process keeps the rules that it has read, so db must be a new connection. Those that are older may go on with the old
// rules until they end: the runtimes of a changed zone are also put first in the order of verification.
func CheckZoneRules(ctx context.Context, db DB) ([]ChangedRules, error) {
	var changed []ChangedRules
	err := inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		if err := q.PrepareList(ctx, prepareList); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		locked, err := q.TryLockZoneCheck(ctx, lockClassZones)
		if err != nil || !locked {
			return err
		}
		zones, err := q.CompareZoneRules(ctx)
		if err != nil {
			return fmt.Errorf("compare zone rules: %w", err)
		}
		var note queries.NoteZoneRulesParams
		for _, zone := range zones {
			if zone.Noted.Valid && zone.Noted.String == zone.Fingerprint {
				continue
			}
			note.Timezones = append(note.Timezones, zone.Timezone)
			note.Fingerprints = append(note.Fingerprints, zone.Fingerprint)
			if !zone.Noted.Valid && zone.Fingerprint != unknownRules {
				continue
			}
			wrong, err := requestRebuildsOfZone(ctx, q, zone.Timezone, zone.Fingerprint != unknownRules)
			if err != nil {
				return err
			}
			changed = append(changed, ChangedRules{Timezone: zone.Timezone, Runtimes: wrong})
		}
		found, err := q.ListRuntimesOfNewZones(ctx)
		if err != nil {
			return fmt.Errorf("list runtimes of new zones: %w", err)
		}
		if err := q.RequestRebuilds(ctx, found); err != nil {
			return fmt.Errorf("request rebuilds: %w", err)
		}
		if err := q.NoteZoneRules(ctx, note); err != nil {
			return fmt.Errorf("note zone rules: %w", err)
		}
		return q.NoteZoneCheck(ctx, int64(len(changed)))
	})
	if err != nil {
		return nil, fmt.Errorf("check zone rules: %w", err)
	}
	return changed, nil
}

// requestRebuildsOfZone requests rebuilds of the runtimes of a zone whose buckets differ from their facts, or of all of them if the zone
// is not known any more, and returns them.
func requestRebuildsOfZone(ctx context.Context, q *queries.Queries, zone string, known bool) ([]pgtype.UUID, error) {
	runtimes, err := q.ListRuntimesOfZone(ctx, zone)
	if err != nil {
		return nil, fmt.Errorf("list runtimes of %s: %w", zone, err)
	}
	wrong := runtimes
	if known {
		wrong = nil
		for _, runtime := range runtimes {
			differences, err := q.CompareRuntimeBuckets(ctx, queries.CompareRuntimeBucketsParams{
				RuntimeIds: []pgtype.UUID{runtime}, MaxDifferences: 1,
			})
			if err != nil {
				return nil, fmt.Errorf("compare buckets: %w", err)
			}
			if len(differences) > 0 {
				wrong = append(wrong, runtime)
			}
		}
	}
	if err := q.RequestRebuilds(ctx, wrong); err != nil {
		return nil, fmt.Errorf("request rebuilds: %w", err)
	}
	if err := q.RequestVerifications(ctx, runtimes); err != nil {
		return nil, fmt.Errorf("request verifications: %w", err)
	}
	return wrong, nil
}
