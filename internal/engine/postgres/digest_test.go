package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// digestAgain is the fingerprint of a database as it is, like a dump's.
func digestAgain(t *testing.T, c engine.Conn, like engine.SchemaDigest) engine.SchemaDigest {
	t.Helper()
	d, err := New(Config{}).DigestSchema(t.Context(), c, like, t.TempDir())
	require.NoError(t, err)
	return d
}

func TestASchemaHasOneDigest(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, richDatabase)
	c := connTo(pg, db)
	res, _ := dumpOf(t, c, engine.DumpOptions{})
	whole := res.SchemaDigest
	require.Regexp(t, `^pg_dump\d+/server\d+/schemas/sequences:[0-9a-f]{64}$`, whole)
	require.Equal(t, whole, digestAgain(t, c, whole))
	for _, same := range []string{
		"INSERT INTO people (name) OVERRIDING SYSTEM VALUE SELECT 'x' WHERE false",
		"GRANT SELECT ON people TO PUBLIC", "DELETE FROM pets", "SELECT lo_create(4243)",
	} {
		pg.Exec(t, db, same)
		require.Equal(t, whole, digestAgain(t, c, whole), same)
	}
	for _, other := range []string{
		"ALTER TABLE people ADD COLUMN more int", "DROP INDEX pets_tags_idx", "COMMENT ON TABLE people IS 'another'",
		"CREATE SCHEMA one_more", "SELECT nextval('pets_id_seq')", "SELECT setval('pets_id_seq', 778, false)",
	} {
		before := digestAgain(t, c, whole)
		pg.Exec(t, db, other)
		require.NotEqual(t, before, digestAgain(t, c, whole), other)
	}
	some, _ := dumpOf(t, c, engine.DumpOptions{IncludeTables: []string{"people"}, ExcludeTableData: []string{"pets"}})
	require.False(t, some.SchemaDigest.Comparable(whole))
}

func TestPartitionsAreCountedTogether(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TYPE color AS ENUM ('red', 'green', 'blue', 'black', 'white', 'pink', 'grey');
		CREATE TABLE hashed (c color, n int) PARTITION BY HASH (c);
		CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY HASH (c, n);
		CREATE TABLE hashed_10 PARTITION OF hashed_1 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
		CREATE TABLE apart (a int); INSERT INTO apart VALUES (1), (2);
		INSERT INTO hashed SELECT e, n FROM unnest(enum_range(NULL::color)) e, generate_series(1, 3) n`)
	var dump enginetest.Memory
	res, err := sharer(Config{}).Dump(t.Context(), connTo(pg, db), engine.DumpOptions{ParallelJobs: 2}, &dump)
	require.NoError(t, err)
	require.Greater(t, len(dump.Members()), 1)
	target := pg.NewDatabase(t)
	pg.Exec(t, target, "CREATE TYPE color AS ENUM ('x'); DROP TYPE color") // other object ids than in the first one
	require.NoError(t, restoreInto(t, connTo(pg, target), engine.RestoreOptions{}, &dump))
	counts, err := New(Config{}).CountRows(t.Context(), connTo(pg, target), res.Tables)
	require.NoError(t, err)
	require.Empty(t, engine.RowDifferences(res.Tables, counts))
	require.Equal(t, res.SchemaDigest, digestAgain(t, connTo(pg, target), res.SchemaDigest))
	pg.Exec(t, target, "DELETE FROM hashed WHERE c = 'red' AND n = 2; DROP TABLE apart")
	counts, err = New(Config{}).CountRows(t.Context(), connTo(pg, target), res.Tables)
	require.NoError(t, err)
	require.ElementsMatch(t, []engine.RowDifference{
		{Table: engine.TableName{Schema: "public", Name: "hashed"}, Dumped: 21, Restored: 20},
		{Table: engine.TableName{Schema: "public", Name: "apart"}, Dumped: 2, Restored: -1},
	}, engine.RowDifferences(res.Tables, counts))
}
