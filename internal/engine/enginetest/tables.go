package enginetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// Numbers of tables: more than get a line of the log each, and more than a program may
// have a lock or an open file for each. The second is for benchmarks where a server
// waits for the disk with every table that it makes.
const (
	ManyTables = 300
	VastTables = 5000
)

// RunTables carries so many tables out of a database and into another. fill makes
// them, with one row each; whole is a statement that fails unless all are there. Both
// have one %d, their number.
func RunTables(t testing.TB, s Subject, n int, fill, whole string) {
	t.Helper()
	from, to := s.newDatabase(t, fmt.Sprintf(fill, n)), s.newDatabase(t, "")
	var log lines
	var last engine.Progress
	res, dump := s.dump(t, s.Server.Conn(from), engine.DumpOptions{Log: log.log, Progress: func(p engine.Progress) { last = p }})
	require.Len(t, res.Tables, n)
	for _, table := range res.Tables {
		require.EqualValues(t, 1, table.Rows, table.Name)
	}
	require.Equal(t, []int{n, n}, []int{last.TablesDone, last.TablesTotal})
	s.Server.Drop(t, from)
	require.Less(t, strings.Count(log.String(), "debug table"), n)
	require.NoError(t, s.restore(t, to, engine.RestoreOptions{Format: res.Format, DumpVersion: res.Server.VersionNum, Log: log.log}, dump))
	s.Server.Exec(t, to, fmt.Sprintf(whole, n))
	require.Less(t, strings.Count(log.String(), "\n"), 2*ManyTables)
}
