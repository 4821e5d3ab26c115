// Package postgres dumps and restores PostgreSQL databases with the server's
// own tools. What they write is proven complete here, without a second
// process.
package postgres

import (
	"cmp"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// Member is the one stream of a dump, in pg_dump's custom format, uncompressed. A dump
// by several connections has several members instead; see memberPattern.
const Member = "backup.dump"

// Format names what Member holds.
const Format = "pg_dump-custom"

const (
	appName               = "dataguardian"
	defaultConnectTimeout = 10 * time.Second
	defaultLockWait       = 5 * time.Minute
	defaultCleanupLimit   = 30 * time.Second
	defaultSharingLimit   = 5 * time.Second
	defaultPlacePatience  = 30 * time.Second
	defaultPlaceLock      = 3 * time.Second
	defaultPlacePause     = 250 * time.Millisecond
	defaultShareFrom      = 8 << 20
	defaultSliceSize      = 128 << 20
)

// Config holds what an installation may choose. The zero value is right for
// most.
type Config struct {
	// BinDirs are searched for pg_dump and pg_restore of any version. Without
	// them it is where packages put them, then the directories of PATH.
	BinDirs []string
	// ConnectTimeout limits each connection attempt; 10 s by default.
	ConnectTimeout time.Duration
	// LockWait is how long a dump waits for a table that somebody has locked
	// exclusively; 5 minutes by default.
	LockWait time.Duration
}

// Engine is an engine.Engine for PostgreSQL.
type Engine struct {
	tools          toolbox
	connectTimeout time.Duration
	lockWait       time.Duration
	cleanupLimit   time.Duration // for putting things in order after a failure
	sharingLimit   time.Duration // for a second connection to compare sessions with
	placePatience  time.Duration // for those who keep a restored database from its place
	placeLock      time.Duration // for the lock on a database that is to change its name: nobody gets in meanwhile
	placePause     time.Duration // between two attempts, in which others get in
	shareFrom      int64         // bytes of a table that are worth a member of its own
	sliceSize      int64         // bytes on disk that one connection reads at a time
}

var _ engine.Engine = (*Engine)(nil)

// New returns an engine. It looks for tools when they are needed, so that one
// installed later is found.
func New(c Config) *Engine {
	return &Engine{
		tools:          toolbox{dirs: c.BinDirs},
		connectTimeout: cmp.Or(c.ConnectTimeout, defaultConnectTimeout),
		lockWait:       cmp.Or(c.LockWait, defaultLockWait),
		cleanupLimit:   defaultCleanupLimit,
		sharingLimit:   defaultSharingLimit,
		placePatience:  defaultPlacePatience,
		placeLock:      defaultPlaceLock,
		placePause:     defaultPlacePause,
		shareFrom:      defaultShareFrom,
		sliceSize:      defaultSliceSize,
	}
}
