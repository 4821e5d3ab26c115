package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// closeTimeout limits the good-bye to a server.
const closeTimeout = 2 * time.Second

// Ping connects to c's database and asks what is there.
func (e *Engine) Ping(ctx context.Context, c engine.Conn) (engine.ServerInfo, error) {
	began := time.Now()
	conn, err := e.connect(ctx, c)
	if err != nil {
		return engine.ServerInfo{}, err
	}
	defer closeConn(ctx, conn)
	info, err := serverInfo(ctx, conn, c)
	info.Latency = time.Since(began)
	return info, err
}

func serverInfo(ctx context.Context, conn *pgx.Conn, c engine.Conn) (engine.ServerInfo, error) {
	info := engine.ServerInfo{Flavor: engine.Postgres}
	const sql = `SELECT split_part(current_setting('server_version'), ' ', 1),
		current_setting('server_version_num')::int, pg_database_size(current_database())`
	err := conn.QueryRow(ctx, sql).Scan(&info.Version, &info.VersionNum, &info.DatabaseSize)
	if err != nil {
		return info, queryError(ctx, err, c, "asking for the version")
	}
	return info, nil
}

// closeConn says good-bye even when ctx is over.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // nothing depends on how it ends
}

func majorOf(versionNum int) int { return versionNum / 10000 }
