package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"daybook/internal/server"
)

// countingListener counts the bytes that are written to its connections.
type countingListener struct {
	net.Listener
	written *atomic.Int64
}

type countingConn struct {
	net.Conn
	written *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.written}, err
}

func (c countingConn) Write(p []byte) (int, error) {
	c.written.Add(int64(len(p)))
	return c.Conn.Write(p)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It does not wait.
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// serve serves handler until the test ends.
func serve(t *testing.T, listener net.Listener, handler http.HandlerFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener, handler, time.Minute, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// What is written of an answer while it is gathered arrives, whatever its length: around net/http's buffer of 4 kB, flushed or not, in pieces, in
// chunks, and one behind the other on a connection.
func TestGatheredAnswersAreWhole(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("0123456789abcdef"), 2048)
	listener := listen(t)
	serve(t, listener, func(w http.ResponseWriter, r *http.Request) {
		conn := server.Gather(r.Context())
		defer conn.Send()
		n, _ := strconv.Atoi(r.FormValue("n"))
		size, _ := strconv.Atoi(r.FormValue("size"))
		if r.FormValue("length") == "true" {
			w.Header().Set("Content-Length", strconv.Itoa(n))
		}
		for rest := body[:n]; len(rest) > 0; {
			piece := rest[:min(size, len(rest))]
			w.Write(piece) //nolint:errcheck // The client sees it.
			rest = rest[len(piece):]
		}
		if r.FormValue("flush") == "true" {
			http.NewResponseController(w).Flush() //nolint:errcheck // The client sees it.
		}
	})
	client := new(http.Client)
	get := func(n, size int, flush, length bool) {
		query := fmt.Sprintf("?n=%d&size=%d&flush=%t&length=%t", n, size, flush, length)
		response, err := client.Get("http://" + listener.Addr().String() + "/" + query) //nolint:noctx // The test has a limit.
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if err != nil || !bytes.Equal(got, body[:n]) {
			t.Fatalf("%s: %d bytes came: %v", query, len(got), err)
		}
	}
	for _, flush := range []bool{false, true} {
		for _, length := range []bool{false, true} {
			for n := 3900; n <= 4200; n++ { // With its header, one of these fills the buffer.
				get(n, n, flush, length)
			}
			for _, size := range []int{100, 2048, 4095, 4096, 4097, 8192, 20000} {
				get(len(body), size, flush, length)
			}
		}
	}
	client.CloseIdleConnections()
}

// The first 4 kB wait for what comes next.
func TestFirstBytesWaitForMore(t *testing.T) {
	t.Parallel()
	sent := make(chan int64, 1)
	listener := countingListener{listen(t), new(atomic.Int64)}
	serve(t, listener, func(w http.ResponseWriter, r *http.Request) {
		conn := server.Gather(r.Context())
		w.Header().Set("Content-Length", "6000")
		w.Write(make([]byte, 5000)) //nolint:errcheck // The client sees it.
		sent <- listener.written.Load()
		w.Write(make([]byte, 1000))           //nolint:errcheck // The client sees it.
		http.NewResponseController(w).Flush() //nolint:errcheck // The client sees it.
		conn.Send()
	})
	response, err := http.Get("http://" + listener.Addr().String()) //nolint:noctx // The test has a limit.
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || len(body) != 6000 {
		t.Fatalf("%d bytes came: %v", len(body), err)
	}
	if n := <-sent; n != 0 {
		t.Errorf("%d bytes were sent before the rest was there", n)
	}
}

// A client whose request is too long gets all of the answer, though not all of the request is read: the connection is closed in two steps.
func TestAnswersToRequestsThatAreNotRead(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	serve(t, listener, func(http.ResponseWriter, *http.Request) {})
	client, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // It does not wait.
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := fmt.Fprintf(client, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 200<<10)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(client)
	if err != nil || !strings.Contains(string(answer), "431 Request Header Fields Too Large") {
		t.Errorf("the answer is %q: %v", answer, err)
	}
}
