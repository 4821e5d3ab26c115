package mysql

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// A dump is SQL, and what that may do is what the user of the target may: one with
// the rights that docs/operations.md grants reaches nothing else.
func TestAHostileDumpDoesNoMoreThanItsUserMay(t *testing.T) {
	m := testkit.MariaDB(t)
	target, bystander := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, bystander, "CREATE TABLE here (a int); INSERT INTO here VALUES (1); CREATE VIEW seen AS SELECT * FROM here")
	m.Exec(t, target, otherContent)
	untouched, before := plain(t, m, bystander), plain(t, m, target)
	m.Exec(t, "", "CREATE USER hemmed@'127.0.0.1' IDENTIFIED BY 'hemmed-in'; GRANT ALL ON `dg\\_%`.* TO hemmed@'127.0.0.1'; GRANT ALL ON `"+target+"`.* TO hemmed@'127.0.0.1'")
	t.Cleanup(func() { m.Exec(t, "", "DROP USER hemmed@'127.0.0.1'") })
	c := connTo(m, target)
	c.Username, c.Password = "hemmed", "hemmed-in"
	proof := filepath.Join(t.TempDir(), "written")
	require.NoError(t, os.Chmod(filepath.Dir(proof), 0o777))
	for name, said := range map[string]string{
		"another database":           "USE " + bystander + "; DROP TABLE here;",
		"a name with its database":   "DROP TABLE " + bystander + ".here;",
		"a comment that is a gate":   "/*!50001 DROP TABLE " + bystander + ".here */;",
		"a gate of MariaDB":          "/*M!100100 DELETE FROM " + bystander + ".here */;",
		"an insert in a row":         "CREATE TABLE t (a int);\nINSERT INTO `t` VALUES\n(1); DELETE FROM " + bystander + ".here;",
		"another delimiter":          "DELIMITER ;;\nSELECT 1; DROP DATABASE " + bystander + " ;;\nDELIMITER ;",
		"a prepared one":             "SET @x = 'DROP DATABASE " + bystander + "'; PREPARE p FROM @x; EXECUTE p;",
		"a view as a door":           "CREATE VIEW v AS SELECT * FROM " + bystander + ".here; INSERT INTO v VALUES (2);",
		"a trigger as a door":        "CREATE TABLE t (a int); CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW DELETE FROM " + bystander + ".here; INSERT INTO t VALUES (1);",
		"a function as a door":       "DELIMITER ;;\nCREATE FUNCTION f() RETURNS int BEGIN DELETE FROM " + bystander + ".here; RETURN 1; END ;;\nDELIMITER ;\nSELECT f();",
		"another's rights":           "CREATE DEFINER=root@localhost FUNCTION f() RETURNS int RETURN 1;",
		"a table that reads another": "CREATE TABLE t (a int) ENGINE=MERGE UNION=(" + bystander + ".here); INSERT INTO t VALUES (1);",
		"a move":                     "RENAME TABLE " + bystander + ".here TO gone;",
		"a database":                 "CREATE DATABASE evil_one;",
		"a user":                     "CREATE USER evil_one;",
		"a grant":                    "GRANT ALL ON *.* TO hemmed@'127.0.0.1';",
		"a setting":                  "SET GLOBAL max_connections = 1;",
		"a setting by name":          "SET @@GLOBAL.local_infile = 1;",
		"a password":                 "SET PASSWORD FOR root@localhost = PASSWORD('x');",
		"a file that is written":     "SELECT 1 INTO OUTFILE '" + proof + "';",
		"a file that is read":        "CREATE TABLE l (a text); LOAD DATA INFILE '/etc/passwd' INTO TABLE l;",
		"a plugin":                   "INSTALL SONAME 'evil';",
		"the end of the server":      "SHUTDOWN;",
		"somebody's session":         "KILL 1;",
	} {
		t.Run(name, func(t *testing.T) {
			var src enginetest.Memory
			src.Put(Member, []byte("-- MariaDB dump\n"+said+"\n-- Dump completed\n"))
			err := New(Config{}).Restore(t.Context(), c, engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}, &src)
			require.Error(t, err)
			require.Contains(t, []errs.Code{errs.CodeRestoreFailed, errs.CodeDatasourcePermission}, errs.CodeOf(err), "%v", err)
			require.Empty(t, scratchDatabases(t, m))
		})
	}
	require.NoFileExists(t, proof)
	require.Equal(t, untouched, plain(t, m, bystander))
	require.Equal(t, before, plain(t, m, target))
}

// Triggers keep the text that made them, with the name of the database when it was in
// there: restored into another one, they belong to that.
func TestTriggersThatNameTheirDatabaseAreMadeInTheRestoredOne(t *testing.T) {
	m := testkit.MariaDB(t)
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, "", strings.ReplaceAll("CREATE TABLE db.notes (a int); CREATE TABLE db.`odd.one` (a int);"+
		"CREATE TRIGGER /* of db.notes */ db.one BEFORE INSERT ON db.notes FOR EACH ROW SET NEW.a = 7;"+
		"CREATE TRIGGER `db` . `two``s`\n\tAFTER update\n ON `db`\n.`odd.one`\n FOR EACH ROW\nBEGIN\n SET @a = 'db.notes';\n END;"+
		"CREATE TRIGGER db.three AFTER DELETE ON db.`odd.one` FOR EACH ROW INSERT INTO notes VALUES (1);"+
		"CREATE VIEW db.seen AS SELECT a FROM db.notes; CREATE PROCEDURE db.p() SELECT 1; CREATE FUNCTION db.f() RETURNS int RETURN 1;"+
		"CREATE EVENT db.e ON SCHEDULE EVERY 1 DAY STARTS '2031-01-01 00:00:00' DO SELECT 1", "db", source))
	before := plain(t, m, source)
	res, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{DropExisting: true}, dump))
	require.Equal(t, before, plain(t, m, source), "a restore beside the dumped database changed that")
	restored := plain(t, m, target)
	heads := []string{"TRIGGER /* of " + source + ".notes */ one BEFORE INSERT ON notes FOR", "TRIGGER `two``s`\n\tAFTER update\n ON `odd.one`\n FOR EACH ROW\nBEGIN\n SET @a = '" + source + ".notes'", "TRIGGER three AFTER DELETE ON `odd.one` FOR"}
	if m.IsMySQL { // it words heads anew
		heads = []string{"TRIGGER `one` BEFORE INSERT ON `notes` FOR", "TRIGGER `two``s` AFTER UPDATE ON `odd.one` FOR EACH ROW BEGIN\n SET @a = '" + source + ".notes'", "TRIGGER `three` AFTER DELETE ON `odd.one` FOR"}
	}
	for _, head := range heads {
		require.Contains(t, restored, head)
	}
	require.Equal(t, res.SchemaDigest, digestAgain(t, connTo(m, target)))
	m.Exec(t, "", "DROP TRIGGER "+source+".one")
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, source), engine.RestoreOptions{DropExisting: true}, dump), "over itself")
	require.Equal(t, restored, plain(t, m, source))
}
