// Package engine is the contract between executions and database servers: a
// dump writes named members into a sink, a restore reads them from a source.
// What happens to the bytes (compression, encryption, parts) is not its matter.
package engine

import (
	"context"
	"io"
	"time"
)

// Type names a family of database servers.
type Type string

// Supported servers.
const (
	Postgres Type = "postgres"
	MySQL    Type = "mysql"
	MariaDB  Type = "mariadb"
)

// Family joins the servers that read each other's dumps, under the name of one.
func (t Type) Family() Type {
	if t == MariaDB {
		return MySQL
	}
	return t
}

// SSLMode says how far a connection must be protected, in libpq's terms.
type SSLMode string

// TLS modes, from none to full verification.
const (
	SSLDisable    SSLMode = "disable"
	SSLRequire    SSLMode = "require"
	SSLVerifyCA   SSLMode = "verify-ca"
	SSLVerifyFull SSLMode = "verify-full"
)

// Conn says where a database is and who asks. Values are literal: no field is
// ever parsed as an option or a connection string. Password is a secret.
type Conn struct {
	Type        Type
	Host        string // host name, address, or the absolute path of a socket directory
	Port        int
	Database    string
	Username    string
	Password    string
	SSLMode     SSLMode
	SSLRootCert string // PEM; empty means the system's roots
}

// Engine dumps and restores one family of servers. Methods may be called
// concurrently. Errors are *errs.Error with a code of a failed execution; they
// never hold the password.
type Engine interface {
	// Ping connects, asks for the version and returns what it learned.
	Ping(ctx context.Context, c Conn) (ServerInfo, error)
	// Dump writes one consistent snapshot into sink and returns only when it is
	// proven complete. After an error nothing in sink may be trusted. Cancelling
	// ctx ends every child process.
	Dump(ctx context.Context, c Conn, o DumpOptions, sink Sink) (DumpResult, error)
	// Restore replaces or fills the database of c from src. Any failing statement
	// fails the restore.
	Restore(ctx context.Context, c Conn, o RestoreOptions, src Source) error
}

// ServerInfo describes a reachable server.
type ServerInfo struct {
	Version      string // as the server writes it, e.g. "15.18"
	VersionNum   int    // comparable, e.g. 150018 (PostgreSQL), 101119 (MariaDB 10.11.19)
	Flavor       Type   // what the server really is
	Latency      time.Duration
	DatabaseSize int64 // bytes on the server's disk, 0 when unknown
}

// DumpOptions choose what to dump and who listens.
type DumpOptions struct {
	IncludeTables    []string // "table" or "schema.table", literal names; empty means all
	ExcludeTables    []string
	ExcludeTableData []string
	ParallelJobs     int           // connections, 1..16; engines that cannot dump by several warn of it
	StallTimeout     time.Duration // no bytes for so long ends the dump; 0 means the default of 10 minutes
	TempDir          string        // private 0700 directory for credentials and sockets; emptied by the engine
	Log              func(level Level, message string)
	Progress         func(Progress)
}

// Level of a log line.
type Level string

// Levels in the order of their weight.
const (
	LevelDebug   Level = "debug"
	LevelInfo    Level = "info"
	LevelWarn    Level = "warn"
	LevelError   Level = "error"
	LevelSuccess Level = "success"
)

// Progress is a snapshot of how far a dump or restore has come. Calls are
// cheap and frequent; the receiver thins them out.
type Progress struct {
	TablesDone  int
	TablesTotal int   // 0 when unknown
	BytesDone   int64 // raw bytes produced or consumed
	BytesTotal  int64 // an estimate; 0 when unknown
	Current     string
}

// DumpResult says what was dumped, by what.
type DumpResult struct {
	Server  ServerInfo
	Tools   map[string]string // tool name -> version
	Format  string            // e.g. "pg_dump-custom", "mariadb-sql"
	Tables  []Table           // what the dump holds, in dump order
	Warning []string
	// SchemaDigest is the fingerprint of what the dump defines, from its own
	// bytes. Empty when it cannot be told.
	SchemaDigest SchemaDigest
}

// Table is one table of a dump.
type Table struct {
	Schema string
	Name   string
	Rows   int64 // counted in the dump's own snapshot; -1 when not counted
	// Root is the partitioned table at the top that a partition belongs to, nil for
	// all other tables. A restore may put a row into another partition than it came
	// from (the hash of an enum's value differs between databases), so rows are to
	// be compared per root: see RowDifferences.
	Root *TableName
}

// TableName names a table of a database.
type TableName struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

// Sink takes the members of a dump. Create may be called for several members
// at once. A member is complete only when Close returned nil; a writer that is
// abandoned must be closed with CloseWithError, never with Close.
type Sink interface {
	Create(ctx context.Context, member string) (MemberWriter, error)
}

// MemberWriter receives one member. It is used by one goroutine at a time.
type MemberWriter interface {
	io.WriteCloser
	// CloseWithError ends the member as failed; nothing of it will be committed.
	CloseWithError(err error) error
}

// Source gives the members of an artifact back, decrypted and decompressed.
type Source interface {
	Members() []Member
	// Open streams one member. The reader fails before a clean end of file when
	// any byte differs from what was stored.
	Open(ctx context.Context, member string) (io.ReadCloser, error)
}

// Prover is a member that Source.Open returned and whose reading may end early.
type Prover interface {
	// Prove is nil when everything that was read so far is as it was stored: it reads on
	// to the end of what is stored as one with that, and fails with the error that a
	// reader would get. Nothing is read of the member afterwards.
	Prove() error
}

// Member describes one stream of a dump.
type Member struct {
	Name string
	Size int64 // raw bytes
}

// RestoreOptions choose how to restore and who listens.
type RestoreOptions struct {
	DropExisting   bool // replace the database's content
	CreateDatabase bool // create it when absent
	IncludeTables  []string
	WithOwners     bool // keep owners; off by default
	WithPrivileges bool // keep grants; off by default
	ParallelJobs   int
	DumpVersion    int   // ServerInfo.VersionNum of the source; refuses targets that cannot read it
	RawSize        int64 // bytes of the dump, for Preflight; 0 when unknown
	Format         string
	StallTimeout   time.Duration
	TempDir        string
	// Inert is for a database that is only looked at: what its server would run by itself
	// is made in it, but disabled. The engine that did so knows it for DigestSchema.
	Inert bool
	// Proven says that every byte of the source, and what is inside, was proven before. A
	// restore that needs only a part of it may then end the reading with Prover.
	Proven bool
	// Token, 12 lower-case hexadecimal digits, is in the names of databases that
	// live only while the restore runs; see Sweeper. Empty: a random one.
	Token    string
	Log      func(level Level, message string)
	Progress func(Progress)
}

// Inspector is an engine that can look into a restored database.
type Inspector interface {
	// CountRows counts the rows of tables in the database of c, in their order; -1
	// for a table that is not there. RowDifferences compares them.
	CountRows(ctx context.Context, c Conn, tables []Table) ([]int64, error)
	// DigestSchema returns what a whole dump of the database of c would have as its
	// SchemaDigest, leaving out what like, the digest of the dump that was restored,
	// does not cover. The two say something only when they are comparable. tempDir
	// is as in DumpOptions.
	DigestSchema(ctx context.Context, c Conn, like SchemaDigest, tempDir string) (SchemaDigest, error)
	// DropDatabase drops the database of c, ending its sessions. An absent one is fine.
	DropDatabase(ctx context.Context, c Conn) error
}
