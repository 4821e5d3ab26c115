package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

// Tools is a directory for --postgres-bin-dir whose pg_dump misbehaves.
type Tools struct {
	Dir  string
	gate string
	real string
}

// NewTools returns an empty directory: no pg_dump is installed.
func NewTools(t testing.TB) *Tools {
	t.Helper()
	dir := testkit.Dir(t)
	return &Tools{Dir: dir, gate: filepath.Join(dir, "gate"), real: filepath.Join(testkit.Postgres(t).BinDir, "pg_dump")}
}

// Put installs a pg_dump that does what the shell script body says. In it, $REAL
// is the real one, "$@" are the arguments and $PGDATABASE is the database.
func (o *Tools) Put(t testing.TB, version, body string) {
	t.Helper()
	script := fmt.Sprintf("#!/bin/sh\nREAL=%s\nGATE=%s\nif [ \"$1\" = --version ]; then echo 'pg_dump (PostgreSQL) %s'; exit 0; fi\n%s\n", o.real, o.gate, version, body)
	path := filepath.Join(o.Dir, "pg_dump")
	require.NoError(t, os.WriteFile(path+".new", []byte(script), 0o755))
	require.NoError(t, os.Rename(path+".new", path))
}

// Version is the version of the real pg_dump, as it would say it.
func (o *Tools) Version(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("%d.99", testkit.Postgres(t).Major)
}

// PutGated installs a pg_dump that hands over a part of a real dump, in bytes,
// and then waits for Open. After that it does not wait again.
func (o *Tools) PutGated(t testing.TB, bytes int) {
	t.Helper()
	require.NoError(t, syscall.Mkfifo(o.gate, 0o600))
	o.Put(t, o.Version(t), fmt.Sprintf(`
if [ ! -p "$GATE" ]; then exec "$REAL" "$@"; fi
"$REAL" "$@" > "$TMPDIR/whole" || exit 1
head -c %[1]d "$TMPDIR/whole"
: < "$GATE"
tail -c +%[2]d "$TMPDIR/whole"`, bytes, bytes+1))
}

// PutGatedEnd installs a pg_dump that hands over all of a dump of one database, and
// waits for Close, and beyond, before it ends. Dumps of others do not wait.
func (o *Tools) PutGatedEnd(t testing.TB, database string) {
	t.Helper()
	require.NoError(t, syscall.Mkfifo(o.gate, 0o600))
	o.Put(t, o.Version(t), fmt.Sprintf(`
if [ "$PGDATABASE" != %s ] || [ ! -p "$GATE" ]; then exec "$REAL" "$@"; fi
"$REAL" "$@" || exit 1
: < "$GATE"`, database))
}

// PutDying installs a pg_dump that loses the server in the middle of the dump of one
// database, when Lose is called. Dumps of others succeed.
func (o *Tools) PutDying(t testing.TB, database string) {
	t.Helper()
	o.Put(t, o.Version(t), fmt.Sprintf(`
if [ "$PGDATABASE" != %s ]; then exec "$REAL" "$@"; fi
"$REAL" "$@" > "$TMPDIR/whole" || exit 1
head -c -1000 "$TMPDIR/whole"
until [ -e "$GATE" ]; do sleep 0.1; done
echo "pg_dump: error: server closed the connection unexpectedly" >&2
exit 1`, database))
}

// Lose lets every pg_dump of PutDying end.
func (o *Tools) Lose(t testing.TB) {
	t.Helper()
	require.NoError(t, os.WriteFile(o.gate, nil, 0o600))
}

// Close takes the gate away, so that the next dumps do not wait; those that
// wait go on doing so.
func (o *Tools) Close(t testing.TB) {
	t.Helper()
	require.NoError(t, os.Remove(o.gate))
}

// Pin makes a file impossible to remove until unpin is called.
func Pin(t testing.TB, path string) (unpin func()) {
	t.Helper()
	require.NoError(t, pin(path), needsMount)
	var once sync.Once
	unpin = func() { once.Do(func() { require.NoError(t, unmount(path)) }) }
	t.Cleanup(unpin)
	return unpin
}

const needsMount = "this test needs to mount something: run it as root, or let sudo do that without a password"

// SmallDisk mounts a file system of a size in bytes on dir, which is made, until
// the test ends.
func SmallDisk(t testing.TB, dir string, size int) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, mount(dir, fmt.Sprintf("size=%d", size)), needsMount)
	t.Cleanup(func() { require.NoError(t, unmount(dir)) })
}

// ReadOnlyDisk mounts a file system on dir, which is made, that cannot be written.
func ReadOnlyDisk(t testing.TB, dir string) {
	t.Helper()
	SmallDisk(t, dir, 1<<20)
	require.NoError(t, remount(dir, "ro"), needsMount)
}

// GrowDisk gives a small disk another size in bytes.
func GrowDisk(t testing.TB, dir string, size int) {
	t.Helper()
	require.NoError(t, remount(dir, fmt.Sprintf("size=%d", size)), needsMount)
}

// PutRestore installs a pg_restore that waits where it begins while there is a
// gate, see ShutRestore.
func (o *Tools) PutRestore(t testing.TB) {
	t.Helper()
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" != --version ] && [ -p %[1]s ]; then : > %[1]s.reached; : < %[1]s; fi\nexec %[2]s \"$@\"\n",
		o.gate, filepath.Join(filepath.Dir(o.real), "pg_restore"))
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "pg_restore"), []byte(script), 0o755))
}

// ShutRestore lets the next pg_restore wait until Close, and beyond.
func (o *Tools) ShutRestore(t testing.TB) {
	t.Helper()
	require.NoError(t, syscall.Mkfifo(o.gate, 0o600))
}

// AwaitRestore waits until one waits.
func (o *Tools) AwaitRestore(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := os.Stat(o.gate + ".reached"); return err == nil }, patience, 20*time.Millisecond, "no pg_restore waits")
}
