package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// do asks with a method, a body and headers.
func (a *api) do(t *testing.T, method, path, token, body string, header http.Header) (status int, answer http.Header, got string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(read)
}

func TestSourceIsSwitched(t *testing.T) {
	t.Parallel()
	pool, path, token := host(t)
	for _, source := range []string{"rollup", "source"} {
		ctx, stop := context.WithCancel(t.Context())
		a := start(ctx, t, "--database-url", pool.Config().ConnString(), "--source", source)
		status, header, body := a.do(t, http.MethodGet, path, token, "", nil)
		// No worker has run, so the buckets of the new runtime are not built.
		want := map[string]string{"rollup": "live", "source": "source"}[source]
		if got := header.Get("Daybook-Source"); status != http.StatusOK || got != want {
			t.Errorf("%s: %d from %q, want %q; %s", source, status, got, want, body)
		}
		stop()
		a.awaitEnd(t)
	}
}

func TestWritesAreAllowed(t *testing.T) {
	t.Parallel()
	pool, path, token := host(t)
	runtime := strings.TrimSuffix(path, "/usage")
	if _, err := pool.Exec(t.Context(), `UPDATE public.member SET role = 'admin'`); err != nil {
		t.Fatal(err)
	}
	const body = `{"timezone": "Asia/Tokyo"}`
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	url := pool.Config().ConnString()
	reads := start(ctx, t, "--database-url", url)
	if status, _, got := reads.do(t, http.MethodPatch, runtime, token, body, nil); status != http.StatusMethodNotAllowed {
		t.Errorf("without --allow-writes: %d %s", status, got)
	}
	writes := start(ctx, t, "--database-url", url, "--allow-writes", "--write-database-url", url)
	if status, _, got := writes.do(t, http.MethodPatch, runtime, token, body, nil); status != http.StatusOK ||
		!strings.Contains(got, `"timezone":"Asia/Tokyo"`) {
		t.Errorf("with --allow-writes: %d %s", status, got)
	}
	if _, header, _ := reads.do(t, http.MethodGet, path, token, "", nil); header.Get("Daybook-Timezone") != "Asia/Tokyo" {
		t.Errorf("the next read is in %q", header.Get("Daybook-Timezone"))
	}
	stop()
	reads.awaitEnd(t)
	writes.awaitEnd(t)
}

func TestOriginsAreAllowed(t *testing.T) {
	t.Parallel()
	pool, path, token := host(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	a := start(ctx, t, "--database-url", pool.Config().ConnString(), "--cors-origin", "https://a.example", "--cors-origin", "https://b.example")
	for origin, want := range map[string]string{"https://a.example": "https://a.example", "https://b.example": "https://b.example", "https://c.example": ""} {
		_, header, _ := a.do(t, http.MethodGet, path, token, "", http.Header{"Origin": {origin}})
		if got := header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s: allowed is %q", origin, got)
		}
	}
	stop()
	a.awaitEnd(t)
}

func TestSettingsOfConnectionsThatRead(t *testing.T) {
	t.Parallel()
	pool, _, _ := host(t)
	reader, err := connect(t.Context(), "DATABASE_URL", pool.Config().ConnString(), readSettings(1500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for setting, want := range map[string]string{"statement_timeout": "2500ms", "default_transaction_read_only": "on", "row_security": "off"} {
		var got string
		if err := reader.QueryRow(t.Context(), `SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, want %q, %v", setting, got, want, err)
		}
	}
}
