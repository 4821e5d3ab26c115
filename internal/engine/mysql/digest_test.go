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
	require.Regexp(t, "^"+string(flavorOf(m))+`\d+\.\d+(-2)?:[0-9a-f]{64}$`, res.SchemaDigest)
	require.Equal(t, res.SchemaDigest, digestAgain(t, c))
	passes, _ := dumpOf(t, c, engine.DumpOptions{ExcludeTableData: []string{"pets", "line\nbreak"}})
	require.Equal(t, res.SchemaDigest, passes.SchemaDigest)
	for _, same := range []string{
		"INSERT INTO people (name, n) VALUES ('CREATE TABLE x (a int);', 1)", "DELETE FROM pets", "ALTER TABLE people AUTO_INCREMENT = 5000",
		"SET NAMES utf8mb4; DROP FUNCTION twice_of; CREATE DEFINER = 'nobody here'@'%' FUNCTION twice_of(x int) RETURNS int DETERMINISTIC RETURN x * 2",
	} {
		m.Exec(t, db, same)
		require.Equal(t, res.SchemaDigest, digestAgain(t, c), same)
	}
	before := res.SchemaDigest
	for _, other := range []string{
		"ALTER TABLE `line\nbreak` ADD COLUMN more int", "DROP TRIGGER pets_before", "ALTER EVENT nothing DISABLE", "DROP VIEW first_names",
		"DROP FUNCTION twice_of; CREATE FUNCTION twice_of(x int) RETURNS int DETERMINISTIC RETURN x * 3", "ALTER DATABASE CHARACTER SET latin1",
	} {
		m.Exec(t, db, other)
		after := digestAgain(t, c)
		require.NotEqual(t, before, after, other)
		before = after
	}
}

// What MySQL words otherwise once it came back from a dump.
func TestTheWordingOfMySQLAfterARestoreIsOfNoMatter(t *testing.T) {
	digest := func(flavor engine.Type, text string) engine.SchemaDigest {
		s := &script{}
		_, err := s.Write([]byte(text + "-- Dump completed\n"))
		require.NoError(t, err)
		return s.schema.sum(digestMethod(engine.ServerInfo{Flavor: flavor, VersionNum: 90704}), charset{})
	}
	const column, named = "CREATE TABLE `a` (\n  `x` varchar(20) COLLATE latin1_german2_ci\n);\n", "CREATE TABLE `a` (\n  `x` varchar(20) CHARACTER SET latin1 COLLATE latin1_german2_ci\n);\n"
	require.Equal(t, digest(engine.MySQL, column), digest(engine.MySQL, named))
	require.NotEqual(t, digest(engine.MariaDB, column), digest(engine.MariaDB, named), "which always names both, as in digests that are kept")
	require.NotEqual(t, digest(engine.MySQL, column), digest(engine.MySQL, "CREATE TABLE `a` (\n  `x` varchar(20) COLLATE latin1_bin\n);\n"))
	const function = "DELIMITER ;;\nCREATE DEFINER=`root`@`%` FUNCTION `f`() RETURNS int\n    DETERMINISTIC\nRETURN 1"
	require.Equal(t, digest(engine.MySQL, function+"; ;;\nDELIMITER ;\n"), digest(engine.MySQL, function+" ;;\nDELIMITER ;\n"))
	require.NotEqual(t, digest(engine.MySQL, function+"1 ;;\nDELIMITER ;\n"), digest(engine.MySQL, function+" ;;\nDELIMITER ;\n"))
}
