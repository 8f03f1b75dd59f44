package httpapi_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Workspaces of TestWorkspaceNames: owner is a member of acme, and stranger of the other one.
const (
	acmeID  = "00000000-0000-4000-8000-000000000001"
	otherID = "00000000-0000-4000-8000-000000000002"
)

// How a workspace can be named. Owner is a member of acme and of no other, so 200 says that acme was meant, and 404 that another was.
func TestWorkspaceNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const (
		none    = "name the workspace: workspace_slug or workspace_id in the query, or the header X-Workspace-Slug or X-Workspace-ID"
		badID   = "the workspace id must be a UUID, such as 0190163d-8694-739b-aea5-966c26f8ad91"
		badSlug = "the slug of a workspace must be text in UTF-8"
		unknown = "workspace not found"
	)
	long := strings.Repeat("acme", 2000)
	tests := map[string]struct {
		query, slug, id string // slug and id are headers
		status          int
		says            string
	}{
		"slug in the query":        {query: "workspace_slug=acme", status: 200},
		"id in the query":          {query: "workspace_id=" + acmeID, status: 200},
		"slug in the header":       {slug: "acme", status: 200},
		"id in the header":         {id: acmeID, status: 200},
		"id in upper case":         {query: "workspace_id=" + strings.ToUpper(acmeID), status: 200},
		"query over header, slug":  {query: "workspace_slug=acme", slug: "other", status: 200},
		"query over header, id":    {query: "workspace_id=" + acmeID, id: otherID, status: 200},
		"header is not asked":      {query: "workspace_slug=other", slug: "acme", status: 404, says: unknown},
		"header is not asked, id":  {query: "workspace_id=" + otherID, id: acmeID, status: 404, says: unknown},
		"slug over id":             {query: "workspace_slug=acme&workspace_id=" + otherID, status: 200},
		"slug over id, headers":    {slug: "acme", id: otherID, status: 200},
		"header slug over id":      {query: "workspace_id=" + otherID, slug: "acme", status: 200},
		"id is not asked":          {query: "workspace_slug=other&workspace_id=" + acmeID, status: 404, says: unknown},
		"id is not asked, headers": {query: "workspace_id=" + acmeID, slug: "other", status: 404, says: unknown},
		"empty slug, header":       {query: "workspace_slug=", slug: "acme", status: 200},
		"empty slug, id":           {query: "workspace_slug=&workspace_id=" + acmeID, status: 200},
		"empty id, header":         {query: "workspace_id=", id: acmeID, status: 200},
		"no value, header":         {query: "workspace_slug", slug: "acme", status: 200},
		"none":                     {status: 400, says: none},
		"all empty":                {query: "workspace_slug=&workspace_id=", status: 400, says: none},
		"slug twice":               {query: "workspace_slug=acme&workspace_slug=acme", status: 400, says: "workspace_slug must be given once"},
		"slug twice, one empty":    {query: "workspace_slug=&workspace_slug=acme", status: 400, says: "workspace_slug must be given once"},
		"id twice":                 {query: "workspace_id=" + acmeID + "&workspace_id=" + acmeID, status: 400, says: "workspace_id must be given once"},
		"id is no UUID":            {query: "workspace_id=acme", status: 400, says: badID},
		"id without hyphens":       {query: "workspace_id=" + strings.ReplaceAll(acmeID, "-", ""), status: 400, says: badID},
		"id in braces":             {query: "workspace_id={" + acmeID + "}", status: 400, says: badID},
		"id and NUL":               {query: "workspace_id=" + acmeID + "%00", status: 400, says: badID},
		"id in header is no UUID":  {id: "acme", status: 400, says: badID},
		"unknown slug":             {query: "workspace_slug=acm", status: 404, says: unknown},
		"slug in upper case":       {query: "workspace_slug=ACME", status: 404, says: unknown},
		"slug and a blank":         {query: "workspace_slug=acme%20", status: 404, says: unknown},
		"slug of quotes":           {query: "workspace_slug=" + url.QueryEscape(`' OR true --"`), status: 404, says: unknown},
		"slug of a pattern":        {query: "workspace_slug=%25", status: 404, says: unknown},
		"long slug":                {query: "workspace_slug=" + long, status: 404, says: unknown},
		"slug of many":             {query: "workspace_slug=%F0%9F%93%93%EF%BF%BD", status: 404, says: unknown},
		"slug and NUL":             {query: "workspace_slug=acme%00", status: 400, says: badSlug},
		"slug is no UTF-8":         {query: "workspace_slug=acme%ff", status: 400, says: badSlug},
		"slug is half a letter":    {query: "workspace_slug=%c3", status: 400, says: badSlug},
		"slug is a surrogate":      {query: "workspace_slug=%ed%a0%80", status: 400, says: badSlug},
		"slug in header no UTF-8":  {slug: "acme\xff", status: 400, says: badSlug},
		"unknown id":               {query: "workspace_id=" + nobody, status: 404, says: unknown},
	}
	for _, route := range apiRoutes(t, b.api) {
		if route.ofRuntime() {
			continue
		}
		t.Run(route.pattern, func(t *testing.T) {
			t.Parallel()
			for name, test := range tests {
				header := bearer(t, owner)
				if test.slug != "" {
					header.Set("X-Workspace-Slug", test.slug)
				}
				if test.id != "" {
					header.Set("X-Workspace-ID", test.id)
				}
				a := b.do(t, http.MethodGet, route.pattern+"?"+test.query, header)
				if a.status != test.status {
					t.Errorf("%s: status is %d, want %d; body %s", name, a.status, test.status, a.body)
				}
				if test.says != "" && a.body != `{"error":"`+test.says+`"}`+"\n" {
					t.Errorf("%s: body is %s", name, a.body)
				}
			}
			// Given twice, it is not clear which one is meant, in a header either.
			for name, value := range map[string]string{"X-Workspace-Slug": "acme", "X-Workspace-Id": acmeID} {
				header := bearer(t, owner)
				header[name] = []string{value, value}
				b.do(t, http.MethodGet, route.pattern, header).requireError(t, http.StatusBadRequest, "must be given once")
			}
		})
	}
}
