package main

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
)

// through returns the URL of the pool's database through a proxy.
func through(t *testing.T, pool *pgxpool.Pool) (*testdb.Proxy, string) {
	t.Helper()
	proxy, address := testdb.NewProxy(t, pool)
	query := address.Query()
	query.Set("pool_max_conns", "2")
	address.RawQuery = query.Encode()
	return proxy, address.String()
}

func TestServiceComesBackByItself(t *testing.T) {
	t.Parallel()
	pool, path, token := host(t)
	proxy, address := through(t, pool)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	a := start(ctx, t, "--database-url", address)
	a.require(t, path, token, http.StatusOK)

	proxy.Cut()
	a.require(t, path, token, http.StatusServiceUnavailable)
	a.require(t, "/readyz", "", http.StatusServiceUnavailable)
	a.require(t, "/healthz", "", http.StatusOK)
	proxy.Up(t)
	a.await(t, path, token, http.StatusOK, 5*time.Second)

	// Attempts that nothing answers must not keep the pool for themselves when the server is there again.
	proxy.SetSilent(true)
	proxy.Cut()
	proxy.Up(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			begin := time.Now()
			status, body, err := a.get(t.Context(), path, token)
			if err != nil || status != http.StatusServiceUnavailable || time.Since(begin) > 3*time.Second {
				t.Errorf("status is %d after %s, %v; %s", status, time.Since(begin), err, body)
			}
		})
	}
	group.Wait()
	proxy.SetSilent(false)
	a.await(t, path, token, http.StatusOK, 8*time.Second)
	stop()
	a.awaitEnd(t)
}
