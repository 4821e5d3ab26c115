package engine

import "context"

// Preparer is an engine that can say beforehand whether a restore could work.
type Preparer interface {
	// Identify names the server of c itself: the same text by whichever host name
	// or address it is reached, another one for another server. The database of c
	// need not be there. The text holds no secret.
	Identify(ctx context.Context, c Conn) (string, error)
	// Preflight fails when a restore with o into the database of c cannot work: the
	// server cannot be reached, does not understand the dump (Format, DumpVersion),
	// c's user may not make the databases it takes, or no fitting tool is installed.
	// The error names versions and rights. Nothing is changed. What it cannot tell for
	// certain it does not refuse: see Target.Warnings.
	Preflight(ctx context.Context, c Conn, o RestoreOptions) (Target, error)
}

// Target is what a restore would find.
type Target struct {
	Server ServerInfo
	Exists bool // the database is there
	// InPlace says that the restore changes the database itself and not one beside it:
	// what is wrong with the backup has to be found before, as the tool may be done
	// with its part of it sooner than the rest is read, or nothing takes it back.
	InPlace bool
	// Warnings are sentences for people: what may fail, or goes otherwise than asked.
	Warnings []string
}

// Sweeper is an engine whose restores make databases that live only while they
// run, and that stay behind when the process is killed.
type Sweeper interface {
	// Sweep drops what the restore with this Token has left on the server of c. What
	// it was cut off in the middle of is finished first, or taken back, and log, which
	// may be nil, is told which of the two. It fails with Conflict while that restore
	// still runs there. That nothing is left is fine.
	Sweep(ctx context.Context, c Conn, token string, log func(level Level, message string)) error
}
