package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// Answers of SHOW GRANTS, as MariaDB 10.11 and MySQL 8.0 write them.
func TestGrantsDecideOnlyWhatTheySay(t *testing.T) {
	const refused, warned, allowed = "refused", "warned", "allowed"
	all := "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, RELOAD, INDEX, ALTER, LOCK TABLES, CREATE ROLE ON *.* TO `u`@`%`"
	for name, c := range map[string]struct {
		lines []string
		want  string // to replace shop, which is there
	}{
		"MariaDB, everything":          {[]string{"GRANT ALL PRIVILEGES ON *.* TO `root`@`127.0.0.1` IDENTIFIED BY PASSWORD '*6C' WITH GRANT OPTION", "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION"}, allowed},
		"MySQL, everything by name":    {[]string{all, "GRANT APPLICATION_PASSWORD_ADMIN,AUDIT_ADMIN ON *.* TO `u`@`%`"}, allowed},
		"MySQL, two databases":         {[]string{"GRANT USAGE ON *.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON `dg\\_%`.* TO `u`@`%`"}, allowed},
		"the target only":              {[]string{"GRANT USAGE ON *.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`"}, refused},
		"scratch databases only":       {[]string{"GRANT ALL PRIVILEGES ON `dg\\_%`.* TO `u`@`%`"}, refused},
		"another that looks like them": {[]string{"GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON `dg\\_x%`.* TO `u`@`%`"}, refused},
		"half of the databases":        {[]string{"GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON `dg\\_restore\\_%`.* TO `u`@`%`"}, refused},
		"wildcards that are none":      {[]string{"GRANT ALL PRIVILEGES ON `sh_p`.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON `%`.* TO `u`@`%`"}, allowed},
		"to read":                      {[]string{"GRANT SELECT, LOCK TABLES ON *.* TO `u`@`%`"}, refused},
		"columns":                      {[]string{"GRANT SELECT (`a`, `b`), INSERT (`a`) ON `shop`.`t` TO `u`@`%`"}, warned},
		"a routine":                    {[]string{"GRANT EXECUTE ON FUNCTION `shop`.`f` TO `u`@`%`"}, warned},
		"MariaDB's routines":           {[]string{"GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`", "GRANT SELECT ON `mysql`.`proc` TO `u`@`%`"}, refused},
		"a role not in use":            {[]string{"GRANT USAGE ON *.* TO `u`@`%`", "GRANT `r`@`%` TO `u`@`%`"}, refused},
		"a partial revoke":             {[]string{"GRANT SELECT ON *.* TO `u`@`%`", "REVOKE SELECT ON `mysql`.* FROM `u`@`%`"}, warned},
		"something from the future":    {[]string{"GRANT EVERYTHING FOR `u`@`%`"}, warned},
		"nothing":                      {nil, refused},
	} {
		t.Run(name, func(t *testing.T) {
			r := &restore{conn: engine.Conn{Database: "shop", Username: "u"}, options: engine.RestoreOptions{DropExisting: true}}
			warning, err := r.admits(readGrants(c.lines), true)
			got := allowed
			switch {
			case err != nil:
				require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err))
				got = refused
			case warning != "":
				got = warned
			}
			require.Equal(t, c.want, got, "%v %s", err, warning)
		})
	}
	unknown := &restore{conn: engine.Conn{Database: "shop"}}
	_, err := unknown.admits(rights{vague: "nothing is known"}, false)
	require.NoError(t, err, "what is not known refuses nothing")
}

func TestWhatAUserCannotSeeIsTold(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE a (x int); CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.x = 1; CREATE FUNCTION hidden_one() RETURNS int DETERMINISTIC RETURN 1")
	m.Exec(t, "", "CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'reads-only'; GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT ON "+db+".* TO reader@'127.0.0.1'")
	t.Cleanup(func() { m.Exec(t, "", "DROP USER reader@'127.0.0.1'") })
	c := connTo(m, db)
	c.Username, c.Password = "reader", "reads-only"
	var log lines
	res, dump := dumpOf(t, c, engine.DumpOptions{Log: log.log})
	require.NotContains(t, string(dump.Bytes(Member)), "TRIGGER")
	require.NotContains(t, string(dump.Bytes(Member)), "hidden_one")
	require.NotEmpty(t, ofTheDump(res))
	told := ofTheDump(res)[0]
	routines := "procedures and functions of others"
	if m.IsMySQL {
		routines = "procedures, functions and libraries of others"
	}
	require.Contains(t, told, "triggers (TRIGGER ON the database), "+routines)
	require.NotContains(t, strings.Join(res.Warning, "\n"), "denied", "the tool asks for nothing that is not of the database")
	require.Contains(t, log.String(), told)
	some, _ := dumpOf(t, c, engine.DumpOptions{IncludeTables: []string{"a"}})
	require.NotContains(t, strings.Join(some.Warning, "\n"), "procedures", "it has none in any case")

	grant := "GRANT SELECT ON mysql.proc TO"
	if m.IsMySQL {
		grant = "GRANT SHOW_ROUTINE ON *.* TO"
	}
	m.Exec(t, "", grant+" reader@'127.0.0.1'")
	res, dump = dumpOf(t, c, engine.DumpOptions{})
	require.Contains(t, strings.Join(res.Warning, "\n"), "if there are any: triggers (TRIGGER ON the database);", "and no more than that")
	require.NotContains(t, string(dump.Bytes(Member)), "TRIGGER")
	require.Contains(t, string(dump.Bytes(Member)), "hidden_one")
	m.Exec(t, "", "GRANT TRIGGER ON "+db+".a TO reader@'127.0.0.1'")
	res, _ = dumpOf(t, c, engine.DumpOptions{})
	require.NotContains(t, strings.Join(res.Warning, "\n"), "cannot see", "it may be all tables")
	m.Exec(t, "", "REVOKE TRIGGER ON "+db+".a FROM reader@'127.0.0.1'; GRANT TRIGGER ON "+db+".* TO reader@'127.0.0.1'")
	res, dump = dumpOf(t, c, engine.DumpOptions{})
	require.NotContains(t, strings.Join(res.Warning, "\n"), "cannot see")
	require.Contains(t, string(dump.Bytes(Member)), "TRIGGER")
	require.Contains(t, string(dump.Bytes(Member)), "hidden_one")

	// What is seen and cannot be read ends the dump.
	m.Exec(t, "", "REVOKE "+strings.TrimPrefix(strings.TrimSuffix(grant, " TO"), "GRANT ")+" FROM reader@'127.0.0.1'; GRANT EXECUTE ON "+db+".* TO reader@'127.0.0.1'")
	var sink enginetest.Memory
	_, err := New(Config{}).Dump(t.Context(), c, engine.DumpOptions{TempDir: t.TempDir()}, &sink)
	require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "hidden_one")
	require.Contains(t, errs.Message(err), "SHOW_ROUTINE")
}
