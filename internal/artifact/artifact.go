// Package artifact turns the members of a dump into stored objects and back.
//
// On the way out a member's bytes are compressed, encrypted, cut into parts,
// spooled and uploaded while the dump still runs, in constant memory. An
// artifact exists once its manifest is stored: the manifest is written last and
// deleted first. On the way back nothing ends cleanly that was not proven.
package artifact

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// Spool says how long parts stay on this machine's disk.
type Spool string

// Spools.
const (
	// SpoolFull keeps every part until the commit: another target can take over
	// at any time, and a failed upload can be resumed.
	SpoolFull Spool = "full"
	// SpoolBounded keeps a part until every target that is still wanted has it.
	// Besides one part per open member, at most boundedParts wait.
	SpoolBounded Spool = "bounded"
)

// Strategy says which targets get the artifact.
type Strategy string

// Strategies.
const (
	Fallback  Strategy = "fallback"  // the first target that takes it all
	Replicate Strategy = "replicate" // every target; one success is a success
)

// Target is a storage that shall hold the artifact. The driver stays open until
// the writer has committed or aborted.
type Target struct {
	ID     string
	Name   string
	Driver storage.Driver
}

// Header describes the backup an artifact belongs to; all of it ends up in the
// manifest. It must hold no secret.
type Header struct {
	ExecutionID    string
	JobID          string
	JobName        string
	DatasourceID   string
	DatasourceName string
	Database       string
	Engine         engine.Type
	CreatedAt      time.Time
	StartedAt      time.Time
}

// Progress counts bytes since the start. Calls are frequent and come from
// several goroutines; the receiver thins them out.
type Progress struct {
	RawBytes      int64 // written by the engine
	StoredBytes   int64 // compressed and encrypted, cut into parts
	UploadedBytes int64 // sent, summed over all targets; falls when a part is sent again
}

// Config of one artifact. A zero value means the default where one is named.
type Config struct {
	Header Header
	// Path is where the objects go in every target; see Path.
	Path        string
	Compression Compression // default Zstd
	Level       *int        // default the fastest; see CheckCompression
	Recipients  []string    // age public keys; empty means not encrypted
	PartSize    int64       // bytes of every part but the last; default DefaultPartSize

	SpoolDir     string // holds one directory per execution
	Spool        Spool  // default SpoolFull
	SpoolReserve int64  // bytes of the spool's disk that stay free for others; default DefaultSpoolReserve
	KeepSpool    bool   // keep a full spool after a success too; see DropSpool

	Strategy    Strategy // default Fallback
	Targets     []Target // in order; at least one
	Concurrency int      // uploads at once per target; default 3
	Retry       Retry
	// StallTimeout ends and retries an upload that does not move for so long;
	// default DefaultStallTimeout.
	StallTimeout time.Duration

	// BeforeFirstObject is called before anything is written to a target and
	// should be idempotent. An error of kind Unavailable is retried, any other
	// ends the artifact.
	BeforeFirstObject func(ctx context.Context, targetID string) error
	// Guard is called before every step that changes a target. Its error ends the
	// artifact: nothing is written after it.
	Guard func() error
	// Owned is called before Abort removes anything; default Guard. It should not mind
	// that the work was asked to stop: what was begun is to be removed then.
	Owned func() error
	// Progress and Log are called from several goroutines.
	Progress func(Progress)
	Log      func(level engine.Level, message string)
}

// Defaults of Config.
const (
	DefaultPartSize     int64 = 128 << 20
	DefaultSpoolReserve int64 = 64 << 20
	DefaultStallTimeout       = 5 * time.Minute
	defaultConcurrency        = 3
)

const (
	// boundedParts is how many finished parts a bounded spool holds.
	boundedParts = 6
	// maxTargets is what the set of targets that hold a part has room for.
	maxTargets = 32
	// MaxParts bounds an artifact, and with it the size of a manifest.
	MaxParts = 250_000
)

// Path returns where an artifact lives in a storage:
// {database}/{YYYY-MM-DD_HHMMSS}_{first 8 of the execution's id}.
func Path(database string, started time.Time, executionID string) string {
	return storage.Segment(database) + "/" + started.UTC().Format("2006-01-02_150405") + "_" + executionID[:min(8, len(executionID))]
}

var pathForm = regexp.MustCompile(`^[^/]+/\d{4}-\d{2}-\d{2}_\d{6}_[0-9a-zA-Z]{1,8}$`)

// checkPath accepts only what Path makes, so that no mistake elsewhere can turn
// a deletion loose on other objects.
func checkPath(path string) error {
	if err := storage.CheckKey(path); err != nil {
		return errs.Wrap(err, errs.Invalid, errs.CodeValidation, "%q is not the path of a backup", path)
	}
	if !pathForm.MatchString(path) {
		return errs.New(errs.Invalid, errs.CodeValidation, "%q is not the path of a backup", path)
	}
	return nil
}

// withDefaults returns c with every default filled in.
func (c Config) withDefaults() Config {
	orDefault(&c.Compression, Zstd)
	orDefault(&c.PartSize, DefaultPartSize)
	orDefault(&c.Spool, SpoolFull)
	orDefault(&c.SpoolReserve, DefaultSpoolReserve)
	orDefault(&c.Strategy, Fallback)
	orDefault(&c.Concurrency, defaultConcurrency)
	orDefault(&c.StallTimeout, DefaultStallTimeout)
	c.Retry = c.Retry.withDefaults()
	if c.BeforeFirstObject == nil {
		c.BeforeFirstObject = func(context.Context, string) error { return nil }
	}
	if c.Guard == nil {
		c.Guard = func() error { return nil }
	}
	if c.Owned == nil {
		c.Owned = c.Guard
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Log == nil {
		c.Log = func(engine.Level, string) {}
	}
	return c
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// check refuses a configuration that cannot work. It names every bad field.
func (c Config) check() error {
	var bad []errs.Field
	need := func(ok bool, field, format string, args ...any) {
		if !ok {
			bad = append(bad, errs.Field{Field: field, Message: fmt.Sprintf(format, args...)})
		}
	}
	need(checkPath(c.Path) == nil, "path", "%q is not the path of a backup", c.Path)
	need(plainName(c.Header.ExecutionID), "execution_id", "%q cannot name a directory", c.Header.ExecutionID)
	need(c.SpoolDir != "", "spool_dir", "it is empty")
	need(c.PartSize > 0, "part_size", "it must be positive")
	need(c.Concurrency > 0, "concurrency", "it must be positive")
	need(c.Spool == SpoolFull || c.Spool == SpoolBounded, "spool", "%q is neither full nor bounded", c.Spool)
	need(c.Strategy == Fallback || c.Strategy == Replicate, "storage_strategy", "%q is neither fallback nor replicate", c.Strategy)
	need(len(c.Targets) > 0 && len(c.Targets) <= maxTargets, "storage_targets", "there must be 1 to %d", maxTargets)
	seen := map[string]bool{}
	for _, t := range c.Targets {
		need(t.Driver != nil && !seen[t.ID], "storage_targets", "%q is there twice or has no driver", t.ID)
		seen[t.ID] = true
	}
	if err := CheckCompression(c.Compression, c.Level); err != nil {
		need(false, "compression", "%s", errs.Message(err))
	}
	if err := CheckRecipients(c.Recipients); err != nil {
		need(false, "recipients", "%s", errs.Message(err))
	}
	if bad != nil {
		return errs.InvalidFields(errs.CodeValidation, bad...)
	}
	return nil
}

// plainName accepts one path segment without anything special in it.
func plainName(name string) bool {
	return name != "" && name != "." && storage.Segment(name) == name && !strings.Contains(name, "%")
}

// counters add up what Progress reports.
type counters struct {
	raw, stored, uploaded atomic.Int64
	report                func(Progress)
}

func (c *counters) changed() {
	c.report(Progress{RawBytes: c.raw.Load(), StoredBytes: c.stored.Load(), UploadedBytes: c.uploaded.Load()})
}
