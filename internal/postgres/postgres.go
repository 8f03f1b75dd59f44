// Package postgres opens pools of connections, and finds out whether a connection pooler in transaction mode, such as PgBouncer, stands
// between them and Postgres. Behind one, statements of one connection go to different server processes: there are no prepared
// statements and no session settings, and nobody is notified.
package postgres

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/queries"
)

// Open makes a pool that connects when it is first used. Settings are those of every session, as in postgresql.conf; what the URL sets itself
// stays. Behind a pooler they are those of what DB and Settle are used for.
func Open(ctx context.Context, config *pgxpool.Config, settings map[string]string) (*pgxpool.Pool, error) {
	var d detector
	forTransactions := queries.NewSettings(settings)
	config.BeforeConnect = func(ctx context.Context, connConfig *pgx.ConnConfig) error {
		pooled, err := d.isPooled(ctx, connConfig)
		if err != nil {
			return err
		}
		if pooled {
			connConfig.DefaultQueryExecMode = withoutPrepared
			return nil
		}
		for name, value := range settings {
			if connConfig.RuntimeParams[name] == "" {
				connConfig.RuntimeParams[name] = value
			}
		}
		return nil
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if conn.Config().DefaultQueryExecMode == withoutPrepared {
			conn.PgConn().CustomData()[settingsKey] = forTransactions
		}
		return EncodeArrays(ctx, conn)
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// withoutPrepared describes each statement once and then sends it whole, in one round trip.
const withoutPrepared = pgx.QueryExecModeCacheDescribe

// settingsKey is of the data of a connection that goes through a pooler.
const settingsKey = "daybook.settings"

func settingsOf(conn *pgx.Conn) (queries.Settings, bool) {
	settings, pooled := conn.PgConn().CustomData()[settingsKey].(queries.Settings)
	return settings, pooled
}

// IsPooled tells whether a connection of a pool that Open made goes through a pooler.
func IsPooled(conn *pgx.Conn) bool {
	_, pooled := settingsOf(conn)
	return pooled
}

// DB runs single statements on a connection with the settings of its pool.
func DB(conn *pgxpool.Conn) queries.DBTX {
	if settings, pooled := settingsOf(conn.Conn()); pooled {
		return queries.Settled(conn, settings)
	}
	return conn
}

// Settle gives a transaction that has just begun the settings of its pool.
func Settle(ctx context.Context, tx pgx.Tx) error {
	if settings, pooled := settingsOf(tx.Conn()); pooled {
		return settings.Apply(ctx, tx)
	}
	return nil
}

// Connect makes one more connection as the pool makes them. Configure may change its configuration.
func Connect(ctx context.Context, pool *pgxpool.Pool, configure ...func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	config := pool.Config()
	for _, c := range configure {
		c(config.ConnConfig)
	}
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, config.ConnConfig)
}

// detector finds out once.
type detector struct {
	mu            sync.Mutex
	known, pooled bool
}

// isPooled makes a connection of its own and compares the process that the server says it is with the one that answers. A pooler gives
// its clients numbers of its own. Who asks for a mode without prepared statements, in the URL, has told.
func (d *detector) isPooled(ctx context.Context, config *pgx.ConnConfig) (bool, error) {
	if config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		return true, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known {
		return d.pooled, nil
	}
	probe := config.Copy()
	probe.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, probe)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // Nothing depends on it.
	pid, err := queries.New(conn).GetBackendPID(ctx)
	if err != nil {
		return false, fmt.Errorf("look for a connection pooler: %w", err)
	}
	d.known, d.pooled = true, uint32(pid) != conn.PgConn().PID() //nolint:gosec // A process number.
	return d.pooled, nil
}
