package httpapi

import (
	"errors"
	"net/http"

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

// writeRuntime writes a runtime as clients know it.
func writeRuntime(w *jsonRows, r *queries.GetRuntimeRow) {
	w.id("id", r.ID)
	w.id("workspace_id", r.WorkspaceID)
	w.optionalText("daemon_id", r.DaemonID)
	w.text("name", r.Name)
	w.text("runtime_mode", r.RuntimeMode)
	w.text("provider", r.Provider)
	w.text("launch_header", launchHeaders[r.Provider])
	w.text("status", r.Status)
	w.text("device_info", r.DeviceInfo)
	w.json("metadata", r.Metadata)
	w.optionalID("owner_id", r.OwnerID)
	w.text("visibility", r.Visibility)
	w.text("timezone", r.Timezone)
	w.time("last_seen_at", r.LastSeenAt)
	w.time("created_at", r.CreatedAt)
	w.time("updated_at", r.UpdatedAt)
}

// runtimeAnswer is a runtime or several as JSON, and who asked about which workspace.
type runtimeAnswer struct {
	user, workspace pgtype.UUID
	document        document
}

// newRuntimeAnswer says what the caller may do with the runtime too: change or delete it, bind an agent to it.
func newRuntimeAnswer(row queries.GetRuntimeRow) runtimeAnswer {
	edit := mayEdit(row.Role, row.UserID, row.OwnerID)
	var out jsonRows
	writeRuntime(&out, &row)
	out.bool("can_edit", edit)
	out.bool("can_use", edit || row.Visibility == visibilityPublic)
	out.end()
	return runtimeAnswer{row.UserID, row.WorkspaceID, newDocument(contentTypeJSON, out.object())}
}

// mayEdit: owners and admins of the workspace, and the runtime's owner.
func mayEdit(role string, user, owner pgtype.UUID) bool {
	return role == roleOwner || role == roleAdmin || (owner.Valid && owner == user)
}

// getRuntime answers with one runtime and what the caller may do with it.
func (s *API) getRuntime(w http.ResponseWriter, r *http.Request) error {
	id, err := runtimeIDParam(r)
	if err != nil {
		return err
	}
	c := callerOf(r)
	p := queries.GetRuntimeParams{UserID: c.user, TokenHash: c.tokenHash, RuntimeID: id}
	a, err := ask(r.Context(), s, "runtime", formatJSON, (*queries.Queries).GetRuntime, p, newRuntimeAnswer)
	if isNoRows(err) {
		return s.notFound(r, errRuntimeNotFound)
	}
	if err != nil {
		return err
	}
	infoOf(r).learn(a.user, a.workspace)
	answerPrivately(w, r, a.document)
	return nil
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
	p := queries.ListRuntimesParams{UserID: c.user, TokenHash: c.tokenHash, Slug: name.slug, WorkspaceID: name.id, Own: own}
	a, err := ask(r.Context(), s, "runtimes", formatJSON, (*queries.Queries).ListRuntimes, p, newRuntimesAnswer)
	if err != nil {
		return err
	}
	if !a.workspace.Valid {
		return s.notFound(r, errWorkspaceNotFound)
	}
	infoOf(r).learn(a.user, a.workspace)
	answerPrivately(w, r, a.document)
	return nil
}

// newRuntimesAnswer returns an answer without a workspace if there is none that the caller may see.
func newRuntimesAnswer(rows []queries.ListRuntimesRow) runtimeAnswer {
	if len(rows) == 0 {
		return runtimeAnswer{}
	}
	out := jsonRows{buf: make([]byte, 0, len(rows)*sizeOfRuntime)}
	for i := range rows {
		if rows[i].Found {
			row := queries.GetRuntimeRow(rows[i])
			writeRuntime(&out, &row)
			out.end()
		}
	}
	return runtimeAnswer{rows[0].UserID, rows[0].WorkspaceID, newDocument(contentTypeJSON, out.body())}
}

// sizeOfRuntime is about what a runtime takes as JSON, in bytes.
const sizeOfRuntime = 600

func isNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
