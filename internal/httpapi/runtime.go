package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// Roles of members, as the host names them.
const (
	roleOwner = "owner"
	roleAdmin = "admin"
)

const visibilityPublic = "public"

// launchHeaders are how agents of a provider are started, as clients show it. Others have none.
var launchHeaders = map[string]string{
	"claude":   "claude (stream-json)",
	"codex":    "codex app-server",
	"copilot":  "copilot (json)",
	"cursor":   "cursor-agent (stream-json)",
	"gemini":   "gemini (stream-json)",
	"hermes":   "hermes acp",
	"openclaw": "openclaw agent (json)",
	"opencode": "opencode run (json)",
	"pi":       "pi (json mode)",
	"kimi":     "kimi acp",
	"kiro":     "kiro-cli acp",
}

// runtimeObject is a runtime as clients know it. Times are RFC 3339 in UTC, to the second.
type runtimeObject struct {
	ID           pgtype.UUID     `json:"id"`
	WorkspaceID  pgtype.UUID     `json:"workspace_id"`
	DaemonID     pgtype.Text     `json:"daemon_id"`
	Name         string          `json:"name"`
	RuntimeMode  string          `json:"runtime_mode"`
	Provider     string          `json:"provider"`
	LaunchHeader string          `json:"launch_header"`
	Status       string          `json:"status"`
	DeviceInfo   string          `json:"device_info"`
	Metadata     json.RawMessage `json:"metadata"`
	OwnerID      pgtype.UUID     `json:"owner_id"`
	Visibility   string          `json:"visibility"`
	Timezone     string          `json:"timezone"`
	LastSeenAt   *string         `json:"last_seen_at"`
	CreatedAt    *string         `json:"created_at"`
	UpdatedAt    *string         `json:"updated_at"`
}

// permittedRuntime also says what the caller may do with it.
type permittedRuntime struct {
	runtimeObject
	CanEdit bool `json:"can_edit"` // change or delete it
	CanUse  bool `json:"can_use"`  // bind an agent to it
}

func newRuntimeObject(r *queries.GetRuntimeRow) runtimeObject {
	return runtimeObject{
		ID: r.ID, WorkspaceID: r.WorkspaceID, DaemonID: r.DaemonID, Name: r.Name, RuntimeMode: r.RuntimeMode, Provider: r.Provider,
		LaunchHeader: launchHeaders[r.Provider], Status: r.Status, DeviceInfo: r.DeviceInfo, Metadata: r.Metadata, OwnerID: r.OwnerID,
		Visibility: r.Visibility, Timezone: r.Timezone,
		LastSeenAt: formatTime(r.LastSeenAt), CreatedAt: formatTime(r.CreatedAt), UpdatedAt: formatTime(r.UpdatedAt),
	}
}

func newPermittedRuntime(r *queries.GetRuntimeRow) permittedRuntime {
	edit := mayEdit(r.Role, r.UserID, r.OwnerID)
	return permittedRuntime{runtimeObject: newRuntimeObject(r), CanEdit: edit, CanUse: edit || r.Visibility == visibilityPublic}
}

// mayEdit: owners and admins of the workspace, and the runtime's owner.
func mayEdit(role string, user, owner pgtype.UUID) bool {
	return role == roleOwner || role == roleAdmin || (owner.Valid && owner == user)
}

func formatTime(t pgtype.Timestamptz) *string {
	if !t.Valid || t.InfinityModifier != pgtype.Finite {
		return nil
	}
	s := t.Time.UTC().Format(time.RFC3339)
	return &s
}

// getRuntime answers with one runtime and what the caller may do with it.
func (s *API) getRuntime(w http.ResponseWriter, r *http.Request) error {
	id, err := runtimeIDParam(r)
	if err != nil {
		return err
	}
	row, err := s.readRuntime(r, id)
	if err != nil {
		return err
	}
	return answerObject(w, r, newPermittedRuntime(&row))
}

func (s *API) readRuntime(r *http.Request, id pgtype.UUID) (queries.GetRuntimeRow, error) {
	c := callerOf(r)
	var row queries.GetRuntimeRow
	err := s.query(r.Context(), func(ctx context.Context, q *queries.Queries) (err error) {
		row, err = q.GetRuntime(ctx, queries.GetRuntimeParams{UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id})
		return err
	})
	if isNoRows(err) {
		return row, s.notFound(r, errRuntimeNotFound)
	}
	info := infoOf(r)
	info.user, info.workspace = row.UserID, row.WorkspaceID
	return row, err
}

// listRuntimes answers with the runtimes of a workspace, or with the caller's own of them, oldest first.
func (s *API) listRuntimes(w http.ResponseWriter, r *http.Request) error {
	query, err := paramsOf(r)
	if err != nil {
		return err
	}
	name, err := query.workspace(r)
	if err != nil {
		return err
	}
	own, err := query.own()
	if err != nil {
		return err
	}
	c := callerOf(r)
	var rows []queries.ListRuntimesRow
	err = s.query(r.Context(), func(ctx context.Context, q *queries.Queries) (err error) {
		rows, err = q.ListRuntimes(ctx, queries.ListRuntimesParams{
			UserID: c.user, TokenHash: c.tokenHash, Slug: name.slug, WorkspaceID: name.id, Own: own,
		})
		return err
	})
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return s.notFound(r, errWorkspaceNotFound)
	}
	info := infoOf(r)
	info.user, info.workspace = rows[0].UserID, rows[0].WorkspaceID
	list := make([]runtimeObject, 0, len(rows))
	for _, row := range rows {
		if row.Found {
			object := queries.GetRuntimeRow(row)
			list = append(list, newRuntimeObject(&object))
		}
	}
	return answerObject(w, r, list)
}

func answerObject(w http.ResponseWriter, r *http.Request, object any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	answerPrivately(w, r, contentTypeJSON, append(body, '\n'))
	return nil
}

func isNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
