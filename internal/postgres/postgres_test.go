package postgres_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/postgres"
	"daybook/internal/testdb"
	"daybook/queries"
)

var settings = map[string]string{"default_transaction_read_only": "on", "statement_timeout": "1234", "jit": "off"}

func open(t *testing.T, configure func(*pgxpool.Config)) *pgxpool.Conn {
	t.Helper()
	config := testdb.NewHost(t).Config()
	configure(config)
	pool, err := postgres.Open(t.Context(), config, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Release)
	return conn
}

// newNumber stands for a pooler: it gives its clients process numbers of its own, and passes everything else on.
func newNumber(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	go func() {
		frontend := pgproto3.NewFrontend(conn, conn)
		backend := pgproto3.NewBackend(theirs, theirs)
		defer theirs.Close()
		defer conn.Close()
		start, err := backend.ReceiveStartupMessage()
		if err != nil {
			return
		}
		frontend.Send(start)
		if frontend.Flush() != nil {
			return
		}
		go func() {
			for {
				message, err := frontend.Receive()
				if err != nil {
					theirs.Close()
					return
				}
				if key, ok := message.(*pgproto3.BackendKeyData); ok {
					key.ProcessID = 1
				}
				if auth, ok := message.(pgproto3.AuthenticationResponseMessage); ok {
					if _, ok := auth.(*pgproto3.AuthenticationOk); !ok {
						backend.SetAuthType(authTypeOf(auth)) //nolint:errcheck // Known types only.
					}
				}
				backend.Send(message)
				if backend.Flush() != nil {
					return
				}
			}
		}()
		for {
			message, err := backend.Receive()
			if err != nil {
				return
			}
			frontend.Send(message)
			if frontend.Flush() != nil {
				return
			}
		}
	}()
	return ours, nil
}

func authTypeOf(message pgproto3.AuthenticationResponseMessage) uint32 {
	switch message.(type) {
	case *pgproto3.AuthenticationCleartextPassword:
		return pgproto3.AuthTypeCleartextPassword
	case *pgproto3.AuthenticationMD5Password:
		return pgproto3.AuthTypeMD5Password
	case *pgproto3.AuthenticationSASL:
		return pgproto3.AuthTypeSASL
	case *pgproto3.AuthenticationSASLContinue:
		return pgproto3.AuthTypeSASLContinue
	default:
		return pgproto3.AuthTypeSASLFinal
	}
}

// Statements have the same settings with a pooler in between and without, and so have transactions.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		configure func(*pgxpool.Config)
		pooled    bool
	}{
		{"nothing between", func(*pgxpool.Config) {}, false},
		{"a pooler", func(c *pgxpool.Config) {
			c.ConnConfig.DialFunc, c.ConnConfig.TLSConfig, c.ConnConfig.Fallbacks = newNumber, nil, nil
		}, true},
		{"said in the URL", func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			conn := open(t, test.configure)
			if pooled := postgres.IsPooled(conn.Conn()); pooled != test.pooled {
				t.Fatalf("pooled: %t, want %t", pooled, test.pooled)
			}
			db := postgres.DB(conn)
			require := func(row pgx.Row, what string) {
				t.Helper()
				var got []string
				if err := row.Scan(&got); err != nil || strings.Join(got, " ") != "on 1234ms off" {
					t.Errorf("%s: the settings are %q, %v", what, got, err)
				}
			}
			const show = `SELECT ARRAY[current_setting('transaction_read_only'), current_setting('statement_timeout'), current_setting('jit')] WHERE $1::integer = 1`
			require(db.QueryRow(t.Context(), show, 1), "a row")
			rows, err := db.Query(t.Context(), show, 1)
			if err != nil || !rows.Next() {
				t.Fatalf("no rows: %v", err)
			}
			require(rows, "rows")
			rows.Close()
			if err := rows.Err(); err != nil {
				t.Error(err)
			}
			var pgErr *pgconn.PgError
			if _, err := db.Exec(t.Context(), `CREATE TABLE public.made (id integer)`); !errors.As(err, &pgErr) || pgErr.Code != "25006" {
				t.Errorf("a table was made: %v", err)
			}
			if err := db.QueryRow(t.Context(), `SELECT 1 / $1::integer`, 0).Scan(new(int)); !errors.As(err, &pgErr) || pgErr.Code != "22012" {
				t.Errorf("error %v, want a division by zero", err)
			}
			if err := db.QueryRow(t.Context(), show, 2).Scan(new([]string)); !errors.Is(err, pgx.ErrNoRows) {
				t.Errorf("error %v, want no rows", err)
			}
			err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
				if err := postgres.Settle(t.Context(), tx); err != nil {
					return err
				}
				require(tx.QueryRow(t.Context(), show, 1), "a transaction")
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			// Nothing is left of the settings where the next statement may be somebody else's.
			if test.pooled {
				var timeout string
				if err := conn.QueryRow(t.Context(), `SHOW statement_timeout`).Scan(&timeout); err != nil || timeout != "0" {
					t.Errorf("statement_timeout of the session is %q, %v", timeout, err)
				}
			}
		})
	}
}

func TestConnectMakesOneMore(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(t.Context(), testdb.NewHost(t).Config(), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	conn, err := postgres.Connect(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(func() {
		defer cancel()
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if pid, err := queries.New(conn).GetBackendPID(t.Context()); err != nil || uint32(pid) != conn.PgConn().PID() {
		t.Errorf("process %d, %v, want %d", pid, err, conn.PgConn().PID())
	}
}
