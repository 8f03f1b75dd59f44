package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// load is a request that is sent over and over. It shares the machine with what it measures, so it costs little: it is made as pgbench's is,
// by a few goroutines that each poll a share of the connections, the request is made once, and an answer is read only to find its end.
type load struct {
	addr, path, token string
	body              []byte // what every connection must get at first
}

// spare is how long an answer may take.
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

// jobs is how many make a load, this one or pgbench.
const jobs = 2

// yieldEvery keeps Go's monitor asleep. What only makes system calls seems to run without a pause; after 10 ms the monitor takes the
// processor away from it and then looks every 20 µs what becomes of it, which costs a tenth of a core.
const yieldEvery = 4 * time.Millisecond

// run sends the request on so many connections, each as soon as it has the answer to the one before.
func (l *load) run(ctx context.Context, connections int, length time.Duration) (rate, error) {
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", l.path, l.addr, l.token)
	shares := make([]share, min(jobs, connections))
	for i := range connections {
		c, err := dial(l.addr, request)
		if err != nil {
			return rate{}, fmt.Errorf("connect to the api: %w", err)
		}
		defer unix.Close(c.socket) //nolint:errcheck // Nothing depends on it.
		s := &shares[i%len(shares)]
		s.clients = append(s.clients, c)
		s.polls = append(s.polls, unix.PollFd{Fd: int32(c.socket)})
	}
	// Each gets one answer before the time runs.
	if err := each(shares, func(s *share) error { return s.repeat(ctx, time.Now()) }); err != nil {
		return rate{}, err
	}
	for _, s := range shares {
		for _, c := range s.clients {
			if err := c.compare(l.body); err != nil {
				return rate{}, err
			}
		}
	}
	start := time.Now()
	end := start.Add(length)
	err := each(shares, func(s *share) error { return s.repeat(ctx, end) })
	took := time.Since(start)
	if err != nil {
		return rate{}, err
	}
	var all []time.Duration
	for _, s := range shares {
		all = append(all, s.latencies...)
	}
	slices.Sort(all)
	return rate{float64(len(all)) / took.Seconds(), all[len(all)/2], all[len(all)*99/100]}, nil
}

func each(shares []share, do func(*share) error) error {
	var group errgroup.Group
	for i := range shares {
		group.Go(func() error { return do(&shares[i]) })
	}
	return group.Wait()
}

// share is a part of the connections, which one goroutine uses.
type share struct {
	clients   []*client
	polls     []unix.PollFd // of the same connections
	latencies []time.Duration
}

// repeat sends on each connection until the end, at least once, and reads what is answered.
func (s *share) repeat(ctx context.Context, end time.Time) error {
	s.latencies = s.latencies[:0]
	now := time.Now()
	yielded := now
	for i, c := range s.clients {
		if err := c.send(now); err != nil {
			return err
		}
		s.polls[i].Events = unix.POLLIN
	}
	for waiting := len(s.clients); waiting > 0; {
		if now.Sub(yielded) > yieldEvery {
			yielded = now
			runtime.Gosched()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.wait(); err != nil {
			return err
		}
		for i, c := range s.clients {
			if s.polls[i].Revents == 0 {
				continue
			}
			if complete, err := c.read(); err != nil {
				return err
			} else if !complete {
				continue
			}
			now = time.Now()
			s.latencies = append(s.latencies, now.Sub(c.sent))
			if !now.Before(end) {
				s.polls[i].Events = 0
				waiting--
				continue
			}
			if err := c.send(now); err != nil {
				return err
			}
		}
	}
	return nil
}

// wait returns when something has come on any of the connections. Where there is one only, the read waits.
func (s *share) wait() error {
	if len(s.polls) == 1 {
		s.polls[0].Revents = unix.POLLIN
		return nil
	}
	for {
		n, err := unix.Poll(s.polls, int(spare.Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0:
			return errNoAnswer
		default:
			return nil
		}
	}
}

var errNoAnswer = fmt.Errorf("the api does not answer within %s", spare)

// client is a connection that is kept.
type client struct {
	socket  int
	request []byte
	sent    time.Time
	in      []byte // what has come of the answer
}

// dial does without package net, whose own poller would be woken by each answer too.
func dial(addr string, request []byte) (*client, error) {
	to, err := netip.ParseAddrPort(addr)
	if err == nil && !to.Addr().Is4() {
		err = fmt.Errorf("%s is no address of IPv4", addr)
	}
	if err != nil {
		return nil, err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(socket)
	err = unix.Connect(socket, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err == nil {
		timeout := unix.NsecToTimeval(spare.Nanoseconds())
		err = unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(socket))
	}
	return &client{socket: socket, request: request, in: make([]byte, 0, 64<<10)}, nil
}

func (c *client) send(now time.Time) error {
	c.sent, c.in = now, c.in[:0]
	n, err := unix.Write(c.socket, c.request)
	if err == nil && n < len(c.request) {
		err = io.ErrShortWrite
	}
	return err
}

// read takes what has come, or waits for it, and says whether that completes the answer.
func (c *client) read() (complete bool, err error) {
	if len(c.in) == cap(c.in) {
		c.in = slices.Grow(c.in, len(c.in))
	}
	n, err := unix.Read(c.socket, c.in[len(c.in):cap(c.in)])
	switch {
	case err == unix.EINTR: //nolint:errorlint // It is never wrapped.
		return false, nil
	case err == unix.EAGAIN: //nolint:errorlint // It is never wrapped.
		return false, errNoAnswer
	case err != nil:
		return false, err
	case n == 0:
		return false, io.ErrUnexpectedEOF
	}
	c.in = c.in[:len(c.in)+n]
	length, err := answerLength(c.in)
	if err == nil && length > 0 && length < len(c.in) {
		err = fmt.Errorf("the api sends more than an answer: %s", c.in)
	}
	return length > 0, err
}

// compare compares the body of the last answer.
func (c *client) compare(want []byte) error {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(c.in)), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // It is in memory.
	got, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the body is not what the usual client got:\n%s\nwant\n%s", got, want)
	}
	return nil
}
