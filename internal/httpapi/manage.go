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
	var row queries.GetRuntimeRow
	c := callerOf(r)
	lock := func(ctx context.Context, q *queries.Queries) (queries.LockHostRuntimeRow, error) {
		return q.LockHostRuntime(ctx, queries.LockHostRuntimeParams{
			UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id, Zone: optionalText(change.Timezone),
		})
	}
	event := "updated"
	if change == (runtimeChange{}) {
		event = ""
	}
	err = s.manage(r, id, event, lock, func(ctx context.Context, q *queries.Queries, locked *queries.LockHostRuntimeRow) error {
		if !locked.ZoneKnown {
			return badZone(*change.Timezone)
		}
		if event != "" {
			err := q.UpdateHostRuntime(ctx, queries.UpdateHostRuntimeParams{
				RuntimeID: id, Timezone: optionalText(change.Timezone), Visibility: optionalText(change.Visibility),
			})
			if err != nil {
				return err
			}
		}
		row, err = q.GetRuntime(ctx, queries.GetRuntimeParams{UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id})
		return err
	})
	if err != nil {
		return err
	}
	answerRuntime(w, r, &row)
	return nil
}

// deleteRuntime deletes a runtime that no agent uses any more, and its archived agents.
func (s *API) deleteRuntime(w http.ResponseWriter, r *http.Request) error {
	id, err := runtimeIDParam(r)
	if err != nil {
		return err
	}
	c := callerOf(r)
	lock := func(ctx context.Context, q *queries.Queries) (queries.LockHostRuntimeRow, error) {
		row, err := q.LockHostRuntimeToDelete(ctx, queries.LockHostRuntimeToDeleteParams{UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id})
		return queries.LockHostRuntimeRow(row), err
	}
	err = s.manage(r, id, "deleted", lock, func(ctx context.Context, q *queries.Queries, _ *queries.LockHostRuntimeRow) error {
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
		return q.DeleteHostRuntime(ctx, id)
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// manage locks the runtime, checks that the caller may change it, makes the change, and tells listeners of the event unless it is
// empty, all in one transaction.
func (s *API) manage(r *http.Request, id pgtype.UUID, event string,
	lock func(context.Context, *queries.Queries) (queries.LockHostRuntimeRow, error),
	change func(context.Context, *queries.Queries, *queries.LockHostRuntimeRow) error,
) error {
	// The client may go; a change that has begun is brought to its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), ManageTimeout)
	defer cancel()
	conn, err := acquire(ctx, s.config.WritePool)
	if err != nil {
		return err
	}
	defer conn.Release()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		q := queries.New(tx)
		row, err := lock(ctx, q)
		if err != nil {
			return err
		}
		info := infoOf(r)
		info.user, info.workspace = row.UserID, row.WorkspaceID
		if !mayEdit(row.Role, row.UserID, row.OwnerID) {
			return errNotYours
		}
		if err := change(ctx, q, &row); err != nil {
			return err
		}
		if event == "" {
			return nil
		}
		payload, err := json.Marshal(notification{Event: event, RuntimeID: id, WorkspaceID: row.WorkspaceID})
		if err != nil {
			return err
		}
		return q.NotifyRuntime(ctx, string(payload))
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
