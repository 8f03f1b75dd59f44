package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // So that a machine without time zone data knows the names too.

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/internal/postgres"
	"daybook/queries"
)

// ManageTimeout bounds a change. To delete a runtime deletes its tasks.
const ManageTimeout = 25 * time.Second

// foreignKeyViolation is a SQLSTATE.
const foreignKeyViolation = "23503"

// maxBody is the size of a body in bytes.
const maxBody = 16 << 10

var visibilities = []string{"private", visibilityPublic}

// runtimeChange is the body of a PATCH. What is absent or null stays as it is.
type runtimeChange struct {
	Timezone   *string `json:"timezone"`
	Visibility *string `json:"visibility"`
}

// notification is what listeners of the channel daybook_runtime get.
type notification struct {
	Event       string      `json:"event"` // updated or deleted
	RuntimeID   pgtype.UUID `json:"runtime_id"`
	WorkspaceID pgtype.UUID `json:"workspace_id"`
}

// updateRuntime sets a runtime's zone and visibility, both or neither. Its buckets are rebuilt by the workers, as after any change of
// the host's; until then answers come from the facts, in the new zone.
func (s *API) updateRuntime(w http.ResponseWriter, r *http.Request) error {
	id, err := runtimeIDParam(r)
	if err != nil {
		return err
	}
	change, err := readChange(w, r)
	if err != nil {
		return err
	}
	zone, visibility := optionalText(change.Timezone), optionalText(change.Visibility)
	var row queries.GetRuntimeRow
	c := callerOf(r)
	err = s.manage(r, func(ctx context.Context, q *queries.Queries) error {
		locked, err := q.LockHostRuntime(ctx, queries.LockHostRuntimeParams{UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id, Zone: zone})
		if err != nil {
			return err
		}
		infoOf(r).learn(locked.UserID, locked.WorkspaceID)
		if !mayEdit(locked.Role, locked.UserID, locked.OwnerID) {
			return errNotYours
		}
		if !locked.ZoneKnown {
			return badZone(*change.Timezone)
		}
		if change != (runtimeChange{}) {
			err := q.UpdateHostRuntime(ctx, queries.UpdateHostRuntimeParams{RuntimeID: id, Timezone: zone, Visibility: visibility})
			if err != nil {
				return err
			}
			if err := notify(ctx, q, notification{Event: "updated", RuntimeID: id, WorkspaceID: locked.WorkspaceID}); err != nil {
				return err
			}
		}
		row, err = q.GetRuntime(ctx, queries.GetRuntimeParams{UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id})
		return err
	})
	if err != nil {
		return err
	}
	answerPrivately(w, r, newRuntimeAnswer(row).document)
	return nil
}

// deleteRuntime deletes a runtime that no agent uses any more, and its archived agents.
func (s *API) deleteRuntime(w http.ResponseWriter, r *http.Request) error {
	id, err := runtimeIDParam(r)
	if err != nil {
		return err
	}
	c := callerOf(r)
	err = s.manage(r, func(ctx context.Context, q *queries.Queries) error {
		locked, err := q.LockHostRuntimeToDelete(ctx, queries.LockHostRuntimeToDeleteParams{UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id})
		if err != nil {
			return err
		}
		infoOf(r).learn(locked.UserID, locked.WorkspaceID)
		if !mayEdit(locked.Role, locked.UserID, locked.OwnerID) {
			return errNotYours
		}
		active, err := q.HasActiveAgents(ctx, id)
		if err != nil {
			return err
		}
		if active {
			return errActiveAgents
		}
		if err := q.DeleteArchivedAgents(ctx, id); err != nil {
			return err
		}
		if err := q.DeleteHostRuntime(ctx, id); err != nil {
			return err
		}
		return notify(ctx, q, notification{Event: "deleted", RuntimeID: id, WorkspaceID: locked.WorkspaceID})
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// manage makes a change of a runtime in one transaction. The change locks the runtime first and checks that the caller may change it.
func (s *API) manage(r *http.Request, change func(context.Context, *queries.Queries) error) error {
	// The client may go; a change that has begun is brought to its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), ManageTimeout)
	defer cancel()
	conn, err := acquire(ctx, s.config.WritePool)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := postgres.Settle(ctx, tx); err != nil {
			return err
		}
		return change(ctx, queries.New(tx))
	})
	if isNoRows(err) {
		return s.notFound(r, errRuntimeNotFound)
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == foreignKeyViolation {
		// An archived agent was taken back into use a moment ago, or a table that Daybook does not know refers to what is to be deleted.
		if pgErr.TableName == "agent" {
			return errActiveAgents
		}
		return errReferred
	}
	return err
}

// notify tells listeners when the transaction is committed.
func notify(ctx context.Context, q *queries.Queries, n notification) error {
	payload, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return q.NotifyRuntime(ctx, string(payload))
}

// readChange reads and checks the body of a PATCH. An empty zone becomes UTC.
func readChange(w http.ResponseWriter, r *http.Request) (runtimeChange, error) {
	var change *runtimeChange
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&change)
	if err == nil {
		if err = decoder.Decode(new(json.RawMessage)); err == nil {
			err = errors.New("more than one value")
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return runtimeChange{}, errBodyTooLarge
	}
	if err != nil || change == nil {
		return runtimeChange{}, badRequest(`the body must be a JSON object with "timezone", "visibility" or both, and nothing else`)
	}
	if change.Timezone != nil {
		if *change.Timezone == "" {
			*change.Timezone = zoneUTC
		}
		if !isIANA(*change.Timezone) {
			return runtimeChange{}, badZone(*change.Timezone)
		}
	}
	if change.Visibility != nil && !slices.Contains(visibilities, *change.Visibility) {
		return runtimeChange{}, badRequest("visibility must be private or public")
	}
	return *change, nil
}

func badZone(zone string) error {
	return badRequest(fmt.Sprintf("timezone must be the IANA name of a time zone that the database knows, such as Europe/Berlin, not %.40q", zone))
}

// isIANA tells whether a name is in the IANA time zone database. Postgres takes others too: POSIX rules, abbreviations, any case,
// and the files posix/, right/, localtime, posixrules and Factory, which systems keep beside the zones.
func isIANA(name string) bool {
	switch name {
	case "", "Local", "localtime", "posixrules", "Factory":
		return false
	}
	if strings.HasPrefix(name, "posix/") || strings.HasPrefix(name, "right/") {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

func optionalText(s *string) pgtype.Text {
	if s == nil {
		return pgtype.Text{}
	}
	return pgtype.Text{String: *s, Valid: true}
}
