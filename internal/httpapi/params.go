package httpapi

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	minDays = 1
	maxDays = 365
)

const exampleID = "such as 0190163d-8694-739b-aea5-966c26f8ad91"

// ParseUUID takes the usual form of a UUID, 36 characters with hyphens, and no other.
func ParseUUID(s string) (pgtype.UUID, error) {
	var id pgtype.UUID
	// Scan does not look at the hyphens.
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' || id.Scan(s) != nil {
		return pgtype.UUID{}, errors.New("not a UUID")
	}
	return id, nil
}

func runtimeIDParam(r *http.Request) (pgtype.UUID, error) {
	id, err := ParseUUID(chi.URLParam(r, "runtimeId"))
	if err != nil {
		return id, badRequest("the runtime id must be a UUID, " + exampleID)
	}
	return id, nil
}

// params are the parameters of a query string, each given once at most: given twice, it is not clear what is meant.
type params url.Values

func paramsOf(r *http.Request) (params, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		// URL.Query would leave out what it cannot read, and the answer would be for the default.
		return nil, badRequest("the query string is malformed")
	}
	return params(query), nil
}

// get returns the value of a parameter. It is present if it was given, even if empty, and ok unless it was given twice.
func (p params) get(name string) (value string, present, ok bool) {
	values, present := p[name]
	if !present {
		return "", false, true
	}
	return values[0], true, len(values) == 1
}

// days returns the parameter days, or byDefault if it is not given.
func (p params) days(byDefault int32) (int32, error) {
	value, present, ok := p.get("days")
	if !present {
		return byDefault, nil
	}
	days, err := strconv.ParseInt(value, 10, 32)
	if err != nil || !ok || days < minDays || days > maxDays {
		return 0, badRequest("days must be one whole number from 1 to 365")
	}
	return int32(days), nil
}

// project returns the parameter project_id; none means all projects.
func (p params) project() (pgtype.UUID, error) {
	value, present, ok := p.get("project_id")
	if !present {
		return pgtype.UUID{}, nil
	}
	id, err := ParseUUID(value)
	if err != nil || !ok {
		return id, badRequest("project_id must be one UUID, " + exampleID + ", or left out for all projects")
	}
	return id, nil
}

// own returns whether only the caller's own runtimes are asked for.
func (p params) own() (bool, error) {
	value, present, ok := p.get("owner")
	if !present {
		return false, nil
	}
	if value != "me" || !ok {
		return false, badRequest("owner must be me, or left out for all runtimes of the workspace")
	}
	return true, nil
}

// workspaceName is a workspace as a request names it: by slug or, if that is null, by id.
type workspaceName struct {
	slug pgtype.Text
	id   pgtype.UUID
}

// workspace returns which workspace is meant: the slug wins over the id, the query parameter over its header. An empty one counts
// as not given.
func (p params) workspace(r *http.Request) (workspaceName, error) {
	slug, err := p.orHeader(r, "workspace_slug", "X-Workspace-Slug")
	if err != nil {
		return workspaceName{}, err
	}
	if slug != "" {
		// Postgres takes neither as text.
		if !utf8.ValidString(slug) || strings.ContainsRune(slug, 0) {
			return workspaceName{}, badRequest("the slug of a workspace must be text in UTF-8")
		}
		return workspaceName{slug: pgtype.Text{String: slug, Valid: true}}, nil
	}
	value, err := p.orHeader(r, "workspace_id", "X-Workspace-ID")
	if err != nil {
		return workspaceName{}, err
	}
	if value == "" {
		return workspaceName{}, badRequest("name the workspace: workspace_slug or workspace_id in the query, or the header X-Workspace-Slug or X-Workspace-ID")
	}
	id, err := ParseUUID(value)
	if err != nil {
		return workspaceName{}, badRequest("the workspace id must be a UUID, " + exampleID)
	}
	return workspaceName{id: id}, nil
}

func (p params) orHeader(r *http.Request, name, header string) (string, error) {
	value, _, ok := p.get(name)
	if !ok {
		return "", badRequest(name + " must be given once")
	}
	if value != "" {
		return value, nil
	}
	if len(r.Header.Values(header)) > 1 {
		return "", badRequest("the header " + header + " must be given once")
	}
	return r.Header.Get(header), nil
}
