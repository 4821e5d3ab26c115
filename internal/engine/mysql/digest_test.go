package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// digestAgain is the fingerprint of a database as it is, like a dump's.
func digestAgain(t *testing.T, c engine.Conn) engine.SchemaDigest {
	t.Helper()
	d, err := New(Config{}).DigestSchema(t.Context(), c, "", t.TempDir())
	require.NoError(t, err)
	return d
}

func TestASchemaHasOneDigest(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, richDatabase)
	c := connTo(m, db)
	res, _ := dumpOf(t, c, engine.DumpOptions{})
	require.Regexp(t, `^mariadb\d+\.\d+:[0-9a-f]{64}$`, res.SchemaDigest)
	require.Equal(t, res.SchemaDigest, digestAgain(t, c))
	passes, _ := dumpOf(t, c, engine.DumpOptions{ExcludeTableData: []string{"pets", "line\nbreak"}})
	require.Equal(t, res.SchemaDigest, passes.SchemaDigest)
	for _, same := range []string{
		"INSERT INTO people (name, n) VALUES ('CREATE TABLE x (a int);', 1)", "DELETE FROM pets", "ALTER TABLE people AUTO_INCREMENT = 5000",
		"CREATE OR REPLACE DEFINER = 'nobody here'@'%' FUNCTION twice_of(x int) RETURNS int DETERMINISTIC RETURN x * 2",
	} {
		m.Exec(t, db, same)
		require.Equal(t, res.SchemaDigest, digestAgain(t, c), same)
	}
	before := res.SchemaDigest
	for _, other := range []string{
		"ALTER TABLE `line\nbreak` ADD COLUMN more int", "DROP TRIGGER pets_before", "ALTER EVENT nothing DISABLE", "DROP VIEW first_names",
		"CREATE OR REPLACE FUNCTION twice_of(x int) RETURNS int DETERMINISTIC RETURN x * 3", "ALTER DATABASE CHARACTER SET latin1",
	} {
		m.Exec(t, db, other)
		after := digestAgain(t, c)
		require.NotEqual(t, before, after, other)
		before = after
	}
}
