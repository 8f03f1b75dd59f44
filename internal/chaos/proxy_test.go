//go:build chaos

package chaos

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
)

// network is what stands between a worker and Postgres.
type network struct {
	*toxiproxy.Proxy
	// url is that of the database, by way of the proxy.
	url string
}

func newNetwork(t *testing.T, pool *pgxpool.Pool) *network {
	t.Helper()
	u, err := url.Parse(urlOf(t, pool, "application_name", "daybook-far"))
	if err != nil {
		t.Fatal(err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", u.Host)
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	u.Host = proxy.Listen
	return &network{Proxy: proxy, url: u.String()}
}

// poison adds a toxic to both directions.
func (n *network) poison(kind string, attributes map[string]any) error {
	for _, stream := range []string{"upstream", "downstream"} {
		toxic, err := json.Marshal(map[string]any{"name": kind + "_" + stream, "type": kind, "stream": stream, "attributes": attributes})
		if err != nil {
			return err
		}
		// The same toxic may be there already, in a plan that draws it twice.
		_, err = n.Toxics.AddToxicJson(strings.NewReader(string(toxic)))
		if err != nil && err.Error() != toxiproxy.ErrToxicAlreadyExists.Error() {
			return err
		}
	}
	return nil
}

// cut drops whatever is sent. Neither side is told.
func (n *network) cut() error { return n.poison("timeout", map[string]any{"timeout": 0}) }

// reset breaks every connection that is in use, and every new one.
func (n *network) reset() error { return n.poison("reset_peer", map[string]any{"timeout": 0}) }

// slow delays each packet, by milliseconds.
func (n *network) slow(milliseconds int) error {
	return n.poison("latency", map[string]any{"latency": milliseconds, "jitter": milliseconds / 2})
}

// heal ends all of it. Connections that were cut are closed.
func (n *network) heal() { n.Toxics.ResetToxics(context.Background()) }
