// Package mysql dumps and restores MySQL and MariaDB databases with the
// clients that come with them. The two servers speak one protocol and differ
// in their tools: which of them a server is, it says itself.
package mysql

import (
	"cmp"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// Member is the one stream of a dump: SQL text.
const Member = "backup.sql"

// Formats of Member, by the server that was dumped.
const (
	FormatMySQL   = "mysql-sql"
	FormatMariaDB = "mariadb-sql"
)

const (
	defaultConnectTimeout = 10 * time.Second
	defaultLockPatience   = 30
)

// Config holds what an installation may choose. The zero value is right for
// most.
type Config struct {
	// BinDirs are searched for the clients. Without them it is where packages
	// put them, then the directories of PATH.
	BinDirs []string
	// ConnectTimeout limits each connection attempt; 10 s by default.
	ConnectTimeout time.Duration
}

// Engine is an engine.Engine for both servers.
type Engine struct {
	tools          toolbox
	connectTimeout time.Duration
	lockPatience   int // seconds that replacing a database waits for its users

	mu    sync.Mutex
	inert map[place][]string // see noteInert
}

var _ engine.Engine = (*Engine)(nil)

// New returns an engine. It looks for tools when they are needed, so that one
// installed later is found.
func New(c Config) *Engine {
	return &Engine{
		tools:          toolbox{dirs: c.BinDirs},
		connectTimeout: cmp.Or(c.ConnectTimeout, defaultConnectTimeout),
		lockPatience:   defaultLockPatience,
		inert:          map[place][]string{},
	}
}

func formatOf(flavor engine.Type) string {
	if flavor == engine.MariaDB {
		return FormatMariaDB
	}
	return FormatMySQL
}
