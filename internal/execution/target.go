package execution

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
)

// identifyTimeout bounds the question to a target at the time of the request.
const identifyTimeout = 5 * time.Second

// TargetKey names a database for the lock that keeps two restores out of it.
// server is what the server says it is, see engine.Preparer.
func TargetKey(server, database string) string { return "restore:" + server + "/" + database }

// AddressKey is TargetKey for a server that does not say what it is: the names of
// this machine are one.
func AddressKey(c engine.Conn) string {
	host := strings.ToLower(strings.TrimSuffix(c.Host, "."))
	if address, err := netip.ParseAddr(host); err == nil && address.IsLoopback() || host == "localhost" {
		host = "localhost"
	}
	return TargetKey(net.JoinHostPort(host, strconv.Itoa(c.Port)), c.Database)
}

// Token is the part of names of databases that live only while a restore runs,
// see engine.RestoreOptions.
func Token(executionID string) string {
	const digits = 12
	return strings.ReplaceAll(executionID, "-", "")[:digits]
}

// restoreLock names the database itself: two datasources may point to one, by
// different names of its host. A server that cannot be asked from here is asked
// again by the worker, see RestoreStore.HoldTarget. A verification has a database
// of its own.
func (s *Service) restoreLock(ctx context.Context, id string, target datasource.Datasource, o RestoreOrder) string {
	if o.VerificationMode {
		return "verify:" + id
	}
	conn := target.Conn
	conn.Database = targetDatabase(target, o)
	preparer, ok := s.Engines[target.Type].(engine.Preparer)
	if !ok {
		return AddressKey(conn)
	}
	ctx, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	server, err := preparer.Identify(ctx, conn)
	if err != nil {
		s.Logger.InfoContext(ctx, "a target did not say what it is, its worker asks again", "datasource_id", target.ID, "error", err)
		return AddressKey(conn)
	}
	return TargetKey(server, conn.Database)
}
