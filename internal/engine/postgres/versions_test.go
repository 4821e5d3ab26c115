package postgres

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestPartitionsInArchivesOfOldToolsComeWithTheirTable(t *testing.T) {
	entries := []*archive.Entry{
		{DumpID: 1, Desc: "TABLE", Namespace: "public", Tag: "log"},
		{DumpID: 2, Desc: "TABLE", Namespace: "public", Tag: "log_old", Attaches: true, Dependencies: []int{1}},
		{DumpID: 3, Desc: "TABLE", Namespace: "public", Tag: "log_older", Attaches: true, Dependencies: []int{2}},
		{DumpID: 6, Desc: "FOREIGN TABLE", Namespace: "public", Tag: "log_afar", Attaches: true, Dependencies: []int{1}},
		{DumpID: 4, Desc: "TABLE", Namespace: "public", Tag: "heir", Dependencies: []int{1}},
		{DumpID: 5, Desc: "TABLE DATA", Namespace: "public", Tag: "log_older", Dependencies: []int{3}},
	}
	list, err := choose(entries, []string{"log"}, false)
	require.NoError(t, err)
	require.Equal(t, map[int]bool{1: true, 2: true, 3: true, 5: true, 6: true}, list.ids)
	top := &engine.TableName{Schema: "public", Name: "log"}
	require.Equal(t, map[int]*engine.TableName{2: top, 3: top, 6: top}, rootsOf(entries))
}

func TestToolsOfAnyVersionSayThatATableStayedLocked(t *testing.T) {
	for _, said := range [][]string{
		{"pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout", "pg_dump: error: query was: LOCK TABLE public.a IN ACCESS SHARE MODE"},
		{"pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout", "pg_dump: detail: Query was: LOCK TABLE public.a IN ACCESS SHARE MODE"},
	} {
		exit := &process.ExitError{Name: "pg_dump", Tail: said}
		require.True(t, lockTimedOut(exit), said)
		require.Contains(t, errs.Message(toolError(exit, engine.Conn{}, errs.CodeDumpFailed)), "stayed locked")
	}
}

// In "make matrix" the server is newer than the tools of one row.
func TestAServerNewerThanTheToolsIsRefusedBeforeTheStart(t *testing.T) {
	pg := testkit.Postgres(t)
	e := New(Config{BinDirs: []string{fakeTool(t, "pg_dump", "9.6.1", "exit 1")}})
	if newest := newestOfMatrix(t); newest != 0 && newest < pg.Major {
		e = New(Config{})
	}
	var sink enginetest.Memory
	_, err := e.Dump(t.Context(), connTo(pg, "postgres"), engine.DumpOptions{}, &sink)
	require.Equal(t, errs.CodeDumpToolTooOld, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), fmt.Sprintf("postgresql-client-%d", pg.Major))
	require.Empty(t, sink.Members())
}

// newestOfMatrix is the version of the newest tool that "make matrix" has put up; 0
// without it. It is read from the directories' names, not by the code under test.
func newestOfMatrix(t *testing.T) (newest int) {
	t.Helper()
	for _, dir := range testkit.ClientDirs(testkit.PostgresClientsEnv) {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		require.NoError(t, err, "%s is no .../VERSION/bin", dir)
		newest = max(newest, major)
	}
	return newest
}
