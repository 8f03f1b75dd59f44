package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAnswerLength(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"length":    "HTTP/1.1 200 OK\r\nEtag: x\r\ncontent-LENGTH:  5\r\n\r\nhello",
		"empty":     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"chunks":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n1A\r\n" + strings.Repeat("\r\n", 13) + "\r\n0\r\n\r\n",
		"no chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		for n := range len(answer) {
			if got, err := answerLength([]byte(answer[:n])); got != 0 || err != nil {
				t.Errorf("%s: %q: got %d, %v; want 0", name, answer[:n], got, err)
			}
		}
		if got, err := answerLength([]byte(answer + "more")); got != len(answer) || err != nil {
			t.Errorf("%s: got %d, %v; want %d", name, got, err, len(answer))
		}
	}
	for _, answer := range []string{
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
	} {
		if got, err := answerLength([]byte(answer)); err == nil {
			t.Errorf("%q: got %d and no error", answer, got)
		}
	}
}

// TestLoad has a body that is longer than a buffer, and that net/http sends in chunks unless its length is set.
func TestLoad(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789abcdef", 10_000)
	for _, chunked := range []bool{false, true} {
		for _, connections := range []int{1, 5} {
			t.Run(fmt.Sprintf("chunked %t, connections %d", chunked, connections), func(t *testing.T) {
				t.Parallel()
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if got := r.Header.Get("Authorization"); got != "Bearer secret" {
						t.Errorf("the token is %q", got)
					}
					if !chunked {
						w.Header().Set("Content-Length", fmt.Sprint(len(body)))
					}
					fmt.Fprint(w, body)
				}))
				t.Cleanup(server.Close)
				l := load{addr: server.Listener.Addr().String(), path: "/", token: "secret"}
				if err := l.fetch(t.Context()); err != nil {
					t.Fatal(err)
				}
				r, err := l.run(t.Context(), connections, 50*time.Millisecond)
				if err != nil || r.perSecond <= 0 || r.p50 <= 0 || r.p99 < r.p50 {
					t.Errorf("got %+v, %v", r, err)
				}
				l.body = l.body[1:]
				if _, err := l.run(t.Context(), connections, time.Millisecond); err == nil || !strings.Contains(err.Error(), "usual client") {
					t.Errorf("another body: %v", err)
				}
			})
		}
	}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ answer, want string }{
		"status": {"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nwait", "429 Too Many Requests"},
		"closed": {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "unexpected EOF"},
		"more":   {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, world", "more than an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { listener.Close() })
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					// What is not read would reset the connection when it is closed.
					if _, err := conn.Read(make([]byte, 1024)); err == nil {
						fmt.Fprint(conn, test.answer)
					}
					conn.Close()
				}
			}()
			l := load{addr: listener.Addr().String(), path: "/"}
			if _, err := l.run(t.Context(), 3, time.Millisecond); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
