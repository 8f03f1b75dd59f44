package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// proxy stands between the api and Postgres, and can be cut, or stop passing anything on.
type proxy struct {
	addr   string
	target string

	mu       sync.Mutex
	listener net.Listener
	silent   bool
	conns    []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{target: target}
	p.up(t)
	t.Cleanup(p.cut)
	return p
}

// up listens, at the address that it had.
func (p *proxy) up(t *testing.T) {
	t.Helper()
	addr := p.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener := listen(t, addr)
	p.addr = listener.Addr().String()
	p.mu.Lock()
	p.listener = listener
	p.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.pass(conn)
		}
	}()
}

func (p *proxy) pass(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conn)
	if p.silent {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		conn.Close()
		return
	}
	p.conns = append(p.conns, server)
	go io.Copy(server, conn) //nolint:errcheck // It ends when it is cut.
	go io.Copy(conn, server) //nolint:errcheck // It ends when it is cut.
}

// cut ends all connections and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener.Close()
	for _, conn := range p.conns {
		conn.Close()
	}
	p.conns = nil
}

// setSilent decides whether connections to come are passed on, or taken and never answered.
func (p *proxy) setSilent(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
}

// through returns the URL of the pool's database through a proxy.
func through(t *testing.T, pool *pgxpool.Pool) (*proxy, string) {
	t.Helper()
	address, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, address.Host)
	address.Host = p.addr
	query := address.Query()
	query.Set("pool_max_conns", "2")
	query.Set("sslmode", "disable")
	address.RawQuery = query.Encode()
	return p, address.String()
}

func TestServiceComesBackByItself(t *testing.T) {
	t.Parallel()
	pool, path, token := host(t)
	proxy, address := through(t, pool)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	a := start(ctx, t, "--database-url", address)
	a.require(t, path, token, http.StatusOK)

	proxy.cut()
	a.require(t, path, token, http.StatusServiceUnavailable)
	a.require(t, "/readyz", "", http.StatusServiceUnavailable)
	a.require(t, "/healthz", "", http.StatusOK)
	proxy.up(t)
	a.await(t, path, token, http.StatusOK, 5*time.Second)

	// Attempts that nothing answers must not keep the pool for themselves when the server is there again.
	proxy.setSilent(true)
	proxy.cut()
	proxy.up(t)
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
	proxy.setSilent(false)
	a.await(t, path, token, http.StatusOK, 8*time.Second)
	stop()
	a.awaitEnd(t)
}
