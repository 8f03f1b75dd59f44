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

// Send ends what Gather began, and sends what is held back. It closes the connection if it cannot: net/http believes that this is sent.
func (c *Conn) Send() {
	if c == nil {
		return
	}
	c.gathering = false
	if len(c.held) == 0 {
		return
	}
	_, err := c.Conn.Write(c.held)
	c.held = c.held[:0]
	if err != nil {
		c.Close() //nolint:errcheck // There is nobody to tell.
	}
}

// CloseWrite is called by net/http, so that a client whose request is not read to its end still gets the whole answer.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
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

// gatheringListener makes each connection a Conn.
type gatheringListener struct{ net.Listener }

// Accept is called by net/http.
func (l gatheringListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c}, nil
}

func keepConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}
