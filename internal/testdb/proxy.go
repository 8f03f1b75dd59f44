package testdb

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Proxy stands between a program and Postgres, and can be cut, or stop passing anything on.
type Proxy struct {
	addr, target string

	mu       sync.Mutex
	listener net.Listener
	silent   bool
	conns    []net.Conn
}

// NewProxy returns a proxy, and the URL of the pool's database through it. It is cut when the test ends.
func NewProxy(tb testing.TB, pool *pgxpool.Pool) (*Proxy, *url.URL) {
	tb.Helper()
	address, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{addr: "127.0.0.1:0", target: address.Host}
	p.Up(tb)
	tb.Cleanup(p.Cut)
	address.Host = p.addr
	query := address.Query()
	query.Set("sslmode", "disable")
	address.RawQuery = query.Encode()
	return p, address
}

// Up listens, at the address that it had.
func (p *Proxy) Up(tb testing.TB) {
	tb.Helper()
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		tb.Fatal(err)
	}
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

func (p *Proxy) pass(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conn)
	if p.silent {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		conn.Close() //nolint:errcheck // The client sees it.
		return
	}
	p.conns = append(p.conns, server)
	go io.Copy(server, conn) //nolint:errcheck // It ends when it is cut.
	go io.Copy(conn, server) //nolint:errcheck // It ends when it is cut.
}

// Cut ends all connections and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener.Close() //nolint:errcheck // It may be closed.
	for _, conn := range p.conns {
		conn.Close() //nolint:errcheck // It may be closed.
	}
	p.conns = nil
}

// SetSilent decides whether connections to come are passed on, or taken and never answered.
func (p *Proxy) SetSilent(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
}
