package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// load is a request that is sent over and over. It shares the machine with what it measures, so it costs little: the request is made once,
// and an answer is read as far as it must be to find its end.
type load struct {
	addr, path, token string
	body              []byte // what every connection must get at first
}

// spare is the time that is left for the last answers.
const spare = 10 * time.Second

// rate is what was measured.
type rate struct {
	perSecond float64
	p50, p99  time.Duration
}

// fetch asks once with the usual client, and keeps the body to compare others with.
func (l *load) fetch(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.addr+l.path, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // It is read.
	if l.body, err = io.ReadAll(response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status is %d, want 200: %s", response.StatusCode, l.body)
	}
	return nil
}

// run sends the request on so many connections, each as soon as it has the answer to the one before.
func (l *load) run(ctx context.Context, connections int, length time.Duration) (rate, error) {
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", l.path, l.addr, l.token)
	clients := make([]*client, connections)
	var dialer net.Dialer
	for i := range clients {
		conn, err := dialer.DialContext(ctx, "tcp", l.addr)
		if err != nil {
			return rate{}, err
		}
		defer conn.Close() //nolint:errcheck // Nothing depends on it.
		clients[i] = &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), request: request}
	}
	// Each gets one answer before the time runs.
	if err := each(clients, func(c *client) error { return c.compare(l.body, time.Now().Add(spare)) }); err != nil {
		return rate{}, err
	}
	start := time.Now()
	end := start.Add(length)
	err := each(clients, func(c *client) error { return c.repeat(ctx, end) })
	took := time.Since(start)
	if err != nil {
		return rate{}, err
	}
	var all []time.Duration
	for _, c := range clients {
		all = append(all, c.latencies...)
	}
	slices.Sort(all)
	return rate{float64(len(all)) / took.Seconds(), all[len(all)/2], all[len(all)*99/100]}, nil
}

func each(clients []*client, do func(*client) error) error {
	var group errgroup.Group
	for _, c := range clients {
		group.Go(func() error { return do(c) })
	}
	return group.Wait()
}

// client is a connection that is kept.
type client struct {
	conn      net.Conn
	in        *bufio.Reader
	request   []byte
	latencies []time.Duration
}

func (c *client) repeat(ctx context.Context, end time.Time) error {
	if err := c.conn.SetDeadline(end.Add(spare)); err != nil {
		return err
	}
	for start := time.Now(); start.Before(end); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := c.conn.Write(c.request); err != nil {
			return err
		}
		if err := c.read(nil); err != nil {
			return err
		}
		now := time.Now()
		c.latencies = append(c.latencies, now.Sub(start))
		start = now
	}
	return nil
}

func (c *client) compare(want []byte, deadline time.Time) error {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	var got bytes.Buffer
	if err := c.read(&got); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), want) {
		return fmt.Errorf("the body is not what the usual client got:\n%s\nwant\n%s", &got, want)
	}
	return nil
}

var (
	contentLength    = []byte("content-length:")
	transferEncoding = []byte("transfer-encoding:")
	statusOK         = []byte("HTTP/1.1 200 ")
)

// read reads an answer and copies its body, if body is not nil.
func (c *client) read(body *bytes.Buffer) error {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, statusOK) {
		rest, _ := c.in.Peek(c.in.Buffered())
		return fmt.Errorf("the api answers %s%s", line, rest)
	}
	length, chunked := -1, false
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if value, ok := cutName(line, contentLength); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		} else if value, ok := cutName(line, transferEncoding); ok {
			chunked = bytes.EqualFold(value, []byte("chunked"))
		}
	}
	switch {
	case chunked:
		return c.readChunks(body)
	case length >= 0:
		return c.take(length, body)
	default:
		return errors.New("the api answers without Content-Length and not in chunks")
	}
}

// cutName returns the value of a header line if it is of the name, which is in lower case and ends with a colon.
func cutName(line, name []byte) (value []byte, ok bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], name) {
		return nil, false
	}
	return bytes.TrimSpace(line[len(name):]), true
}

func (c *client) readChunks(body *bytes.Buffer) error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return err
		}
		if err := c.take(int(size), body); err != nil {
			return err
		}
		if _, err := c.in.Discard(len("\r\n")); err != nil { // There are no trailers.
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

func (c *client) take(size int, body *bytes.Buffer) (err error) {
	if body == nil {
		_, err = c.in.Discard(size)
	} else {
		_, err = io.CopyN(body, c.in, int64(size))
	}
	return err
}
