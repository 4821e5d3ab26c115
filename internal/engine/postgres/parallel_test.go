package postgres

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestSeveralProcessesRestoreWhatOneWould(t *testing.T) {
	pg := testkit.Postgres(t)
	db, target := pg.NewDatabase(t), pg.NewDatabase(t)
	pg.Exec(t, db, richDatabase)
	pg.Exec(t, target, "CREATE TABLE mine AS SELECT 42 AS answer")
	res, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	before := plain(t, pg, target)
	temp := t.TempDir()
	var log lines
	var last, before100 engine.Progress
	o := engine.RestoreOptions{DropExisting: true, ParallelJobs: 3, TempDir: temp, Progress: func(p engine.Progress) {
		if p.BytesDone < p.BytesTotal {
			before100 = p
		}
		last = p
	}}

	var broken enginetest.Memory
	broken.Put(Member, []byte(strings.Replace(string(dump.Bytes(Member)), "CREATE TRIGGER t ", "CREATE TRIGGEX t ", 1)))
	err := restoreInto(t, connTo(pg, target), o, &broken)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "syntax error")
	var cut enginetest.Memory
	cut.Put(Member, dump.Bytes(Member)[:len(dump.Bytes(Member))-1])
	require.Equal(t, errs.CodeArtifactCorrupt, errs.CodeOf(restoreInto(t, connTo(pg, target), o, &cut)))
	require.Equal(t, before, plain(t, pg, target))
	require.Empty(t, databases(t, pg))

	o.Log = log.log
	require.NoError(t, restoreInto(t, connTo(pg, target), o, dump))
	require.Equal(t, plain(t, pg, db), plain(t, pg, target))
	require.Equal(t, res.SchemaDigest, digestAgain(t, connTo(pg, target), res.SchemaDigest))
	require.NotContains(t, log.String(), "warn")
	require.Equal(t, last.TablesTotal, last.TablesDone)
	require.Equal(t, last.BytesTotal, last.BytesDone)
	require.Equal(t, last.TablesTotal, before100.TablesDone, "it is not done before the tables are")
	require.Greater(t, before100.BytesDone, last.BytesTotal*unpackShare/100, "the progress follows the processes")
	entries, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, entries, "the unpacked archive was left behind")
}

func TestProcessesThatDoNothingAreEnded(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	e := New(Config{BinDirs: []string{fakeTool(t, "pg_restore", fmt.Sprint(pg.Major, ".1"), "echo 'pg_restore: processing item 1' >&2; exec sleep 600")}})
	err := e.Restore(t.Context(), connTo(pg, db), engine.RestoreOptions{DropExisting: true, ParallelJobs: 2, StallTimeout: 300 * time.Millisecond}, dump)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "long time")
	require.Empty(t, databases(t, pg))
	require.Empty(t, enginetest.Children(t))
}
