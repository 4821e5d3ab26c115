package enginetest

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// Dialect writes the SQL of random tables.
type Dialect struct {
	Quote func(name string) string
	// Text and Bytes are expressions for a value given as hexadecimal digits.
	Text, Bytes string // with one %s
	TextType    string
	BytesType   string
	NumberType  string
	// After is appended to each CREATE TABLE.
	After string
}

// testFidelity compares a database that holds everything with what becomes of it,
// dumped and restored by one connection and by several.
func testFidelity(t *testing.T, s Subject) {
	db := s.newDatabase(t, s.Everything)
	ways := []way{{1, 1}}
	if s.Parallel {
		ways = []way{{1, 3}, {3, 1}}
	}
	requireSame(t, s, db, ways...)
}

// testRandom does the same with tables and rows of any kind.
func testRandom(t *testing.T, s Subject) {
	seed := rand.IntN(1 << 30)
	t.Logf("the seed is %d", seed)
	db := s.newDatabase(t, "")
	for _, sql := range randomTables(s.Dialect, seed) {
		s.Server.Exec(t, db, sql)
	}
	requireSame(t, s, db, way{3, 3})
}

// way says how many connections take part.
type way struct{ dumpJobs, restoreJobs int }

// requireSame dumps a database, drops it, since nothing may lead back to it, and
// restores it under other names.
func requireSame(t *testing.T, s Subject, db string, ways ...way) {
	t.Helper()
	want := s.Server.Fingerprint(t, db)
	inspector, ok := s.Engine.(engine.Inspector)
	require.True(t, ok)
	results, dumps := make([]engine.DumpResult, len(ways)), make([]*Memory, len(ways))
	for i, w := range ways {
		results[i], dumps[i] = s.dump(t, s.Server.Conn(db), engine.DumpOptions{ParallelJobs: w.dumpJobs})
		require.Equal(t, results[0], withLatency(results[i], results[0]))
		require.Equal(t, s.Parallel && w.dumpJobs > 1, len(dumps[i].Members()) > 1)
	}
	s.Server.Drop(t, db)
	for i, w := range ways {
		res := results[i]
		target := fmt.Sprintf("made_%d_%s", w.dumpJobs, db)
		t.Cleanup(func() { s.Server.Drop(t, target) })
		require.NoError(t, s.restore(t, target, engine.RestoreOptions{
			CreateDatabase: true, ParallelJobs: w.restoreJobs, Format: res.Format, DumpVersion: res.Server.VersionNum,
		}, dumps[i]))
		require.Equal(t, want, strings.ReplaceAll(s.Server.Fingerprint(t, target), target, db))
		digest, err := inspector.DigestSchema(t.Context(), s.Server.Conn(target), res.SchemaDigest, t.TempDir())
		require.NoError(t, err)
		require.Equal(t, res.SchemaDigest, digest)
		counts, err := inspector.CountRows(t.Context(), s.Server.Conn(target), res.Tables)
		require.NoError(t, err)
		require.Empty(t, engine.RowDifferences(res.Tables, counts))
	}
}

// withLatency makes a result comparable with another one of the same database.
func withLatency(r, like engine.DumpResult) engine.DumpResult {
	r.Server.Latency, r.Server.DatabaseSize = like.Server.Latency, like.Server.DatabaseSize
	return r
}

// randomTables are statements that make a few tables with odd names and values.
func randomTables(d Dialect, seed int) (statements []string) {
	odd := []rune("aZ0 .,;:'\"`\\/-_%$#@!?*()[]{}<>|&^~+=\t\nöß日😀é\u200b")
	name := rapid.StringOfN(rapid.SampledFrom(odd), 1, 12, 40).Filter(func(s string) bool { return strings.TrimSpace(s) == s })
	texts := rapid.OneOf(rapid.Just(""), rapid.StringOfN(rapid.SampledFrom(odd), 0, 60, -1), rapid.StringN(0, 30, -1).Filter(func(s string) bool {
		return !strings.ContainsRune(s, 0)
	}), rapid.SampledFrom([]string{`\.`, `\N`, "\\.\n", "-- Dump completed", "');", "NULL", `\\`, "\r\n", "\x1b[2J"}))
	row := rapid.Custom(func(t *rapid.T) []string {
		value := "NULL"
		if rapid.IntRange(0, 5).Draw(t, "null") > 0 {
			value = fmt.Sprintf(d.Text, hex.EncodeToString([]byte(texts.Draw(t, "text"))))
		}
		return []string{
			fmt.Sprint(rapid.Int64().Draw(t, "n")), value,
			fmt.Sprintf(d.Bytes, hex.EncodeToString(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes"))),
		}
	})
	used := map[string]bool{}
	for i := range 6 {
		table := name.Example(seed + i)
		if used[strings.ToLower(table)] {
			continue
		}
		used[strings.ToLower(table)] = true
		columns := d.Quote("c"+name.Example(seed+10+i)) + " " + d.NumberType + ", " + d.Quote("t"+name.Example(seed+20+i)) + " " + d.TextType +
			", " + d.Quote("b"+name.Example(seed+30+i)) + " " + d.BytesType
		statements = append(statements, "CREATE TABLE "+d.Quote(table)+" ("+columns+")"+d.After)
		var rows []string
		for n := range (seed + i) % 4 * 10 {
			rows = append(rows, "("+strings.Join(row.Example(seed+i*100+n), ", ")+")")
		}
		if len(rows) > 0 {
			statements = append(statements, "INSERT INTO "+d.Quote(table)+" VALUES "+strings.Join(rows, ", "))
		}
	}
	return statements
}
