package server

import (
	"context"
	"net"
)

// bufferSize is that of net/http's buffer for what it writes.
const bufferSize = 4 << 10

// Conn is a connection to a client, which can send the first bytes of an answer together with what follows. Of an answer that is longer than its buffer
// net/http writes a full buffer first, and the client would be woken for that alone.
//
// One goroutine writes at a time: that of the request, or net/http's after it.
type Conn struct {
	net.Conn
	gathering bool
	held      []byte // a full buffer, or nothing
}

// Write holds back a full buffer while an answer is gathered, and sends it with what comes next.
func (c *Conn) Write(p []byte) (int, error) {
	switch {
	case len(c.held) > 0:
		first := len(c.held)
		n, err := (&net.Buffers{c.held, p}).WriteTo(c.Conn)
		c.held = c.held[:0]
		return max(0, int(n)-first), err
	case c.gathering && len(p) == bufferSize:
		c.held = append(c.held, p...)
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

// Send ends what Gather began, and sends what is held back. The error of a client that is gone shows with net/http's next read or write.
func (c *Conn) Send() {
	if c == nil {
		return
	}
	c.gathering = false
	if len(c.held) > 0 {
		c.Conn.Write(c.held) //nolint:errcheck // See above.
		c.held = c.held[:0]
	}
}

type connKey struct{}

// Gather lets the first bytes of the answer wait for more, on the connection of the request that ctx is of. Send must be called when all is
// written. Where Serve does not serve the request it returns nil, of which Send does nothing.
func Gather(ctx context.Context) *Conn {
	c, ok := ctx.Value(connKey{}).(*Conn)
	if !ok {
		return nil
	}
	c.gathering = true
	return c
}

// listener makes each connection a Conn.
type listener struct{ net.Listener }

// Accept is called by net/http.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c}, nil
}

func keepConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}
