package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	demohost "daybook/internal/demo"
)

// A notice tells how to try the demo out.
type notice struct {
	base        string // of the api
	token       string
	host        demohost.Host
	metricsAddr string
	// workerMetrics are the addresses of the workers' metrics.
	workerMetrics []string
	databaseURL   string
	secretFile    string // empty when JWT_SECRET is set
	givenURL      bool   // the user has the URL, so it is not shown: it may hold a password
}

func (n notice) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	database := "'" + n.databaseURL + "'"
	if n.givenURL {
		database = `"$DATABASE_URL"`
	}
	first := n.host.Runtimes[0]

	line("")
	line("Daybook runs with a demo host.")
	line("")
	line("  api        %s", n.base)
	line("  try it     %s/docs", n.base)
	line("  metrics    http://%s/metrics of the api", n.metricsAddr)
	for _, addr := range n.workerMetrics {
		line("             http://%s/metrics of a worker", addr)
	}
	line("  database   %s", database)
	line("")
	line("  runtime                               zone                 workspace  name")
	for _, r := range n.host.Runtimes {
		line("  %s  %-19s  %-9s  %s", r.ID, r.Timezone, r.Workspace, r.Name)
	}
	line("")
	line("A token of the demo's owner, who sees both workspaces, and things to ask:")
	line("")
	line("export TOKEN=%s", n.token)
	for _, path := range n.paths() {
		line(`curl -H "Authorization: Bearer $TOKEN" '%s%s'`, n.base, path)
	}
	line("")
	line("Others see less: user %s is a member of acme only,", n.host.Member)
	line("user %s of no workspace. For their tokens:", n.host.Outsider)
	line("")
	token := "bin/api token --user " + n.host.Member
	if n.secretFile != "" {
		token = fmt.Sprintf(`JWT_SECRET="$(cat '%s')" %s`, n.secretFile, token)
	}
	line("%s", token)
	line("")
	line("Change a runtime's zone, then ask again: the days are cut anew at once.")
	line("")
	line(`curl -X PATCH -H "Authorization: Bearer $TOKEN" -d '{"timezone": "Asia/Tokyo"}' %s/api/runtimes/%s`, n.base, first.ID)
	line("")
	line("See how far the rollups are behind:")
	line("")
	line("DATABASE_URL=%s bin/worker status", database)
	line("")
	line("Kill a worker (kill -9) to see the other take over. Ctrl-C stops everything.")
	line("")
	return b.String()
}

// paths are what the curl lines ask for.
func (n notice) paths() []string {
	runtime := "/api/runtimes/" + n.host.Runtimes[0].ID
	workspace := "workspace_slug=" + n.host.Runtimes[0].Workspace
	return []string{
		runtime + "/usage?days=7",
		runtime + "/usage/by-hour",
		"/api/runtimes?" + workspace,
		"/api/usage/summary?" + workspace,
		"/api/dashboard/agent-runtime?days=7&" + workspace,
		"/api/usage/daily.csv?days=7&" + workspace,
	}
}

// check asks what the first curl line asks, until that is answered, and returns the size of the answer.
func (n notice) check(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	for {
		size, err := n.ask(ctx, n.paths()[0])
		if err == nil {
			return size, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("the first curl line is not answered: %w", err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (n notice) ask(ctx context.Context, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.base+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return 0, fmt.Errorf("GET %s: %w", path, err)
	case res.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("GET %s: %s: %.200s", path, res.Status, body)
	case !json.Valid(body):
		return 0, fmt.Errorf("GET %s: the answer is no JSON: %.200s", path, body)
	}
	return len(body), nil
}

// baseURL is where to reach an api that listens on addr.
func baseURL(addr string) string { return "http://" + dialAddr(addr) }

// dialAddr turns an address that stands for all of a machine's into one that can be dialled.
func dialAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
