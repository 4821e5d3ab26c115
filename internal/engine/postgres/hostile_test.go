package postgres

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// What a dump may say is SQL, and what that may do is what the user of the target may.
func TestAHostileDumpDoesNoMoreThanItsUserMay(t *testing.T) {
	pg := testkit.Postgres(t)
	source, bystander, target := pg.NewDatabase(t), pg.NewDatabase(t), pg.NewDatabase(t)
	proof := filepath.Join(t.TempDir(), "ran")
	require.NoError(t, os.Chmod(filepath.Dir(proof), 0o777))
	room := strings.Repeat("x", 400)
	pg.Exec(t, source, "CREATE TABLE notes (a text); INSERT INTO notes VALUES ('one'); COMMENT ON TABLE notes IS '"+room+"'")
	_, dump := dumpOf(t, connTo(pg, source), engine.DumpOptions{})
	written := "COMMENT ON TABLE public.notes IS '" + room + "';"
	whole := dump.Bytes(Member)
	require.Equal(t, 1, bytes.Count(whole, []byte(written)))

	weak := "weak_" + target
	pg.Exec(t, "postgres", "CREATE ROLE "+weak+" LOGIN CREATEDB PASSWORD 'weak'; ")
	t.Cleanup(func() {
		pg.Exec(t, "postgres", "ALTER DATABASE "+target+" OWNER TO postgres")
		pg.Exec(t, "postgres", "DROP ROLE "+weak)
	})
	pg.Exec(t, "postgres", "ALTER DATABASE "+target+" OWNER TO "+weak)
	pg.Exec(t, target, "CREATE TABLE old (a int)")
	before := plain(t, pg, target)
	c := connTo(pg, target)
	c.Username, c.Password = weak, "weak"
	for name, said := range map[string]string{
		"a command of psql":             "\\! touch " + proof,
		"a command of psql in a line":   "SELECT 1; \\! touch " + proof,
		"a file of psql":                "\\i /etc/passwd",
		"another connection of psql":    "\\connect " + bystander,
		"a program of the server":       "COPY notes FROM PROGRAM 'touch " + proof + "'",
		"a program behind a statement":  "SELECT 1; COPY (SELECT 1) TO PROGRAM 'touch " + proof + "'",
		"a file of the server":          "COPY notes TO '" + proof + "'",
		"another database":              "DROP DATABASE " + bystander,
		"the server's settings":         "ALTER SYSTEM SET work_mem = '1GB'",
		"a role":                        "CREATE ROLE evil SUPERUSER",
		"a higher role":                 "SET ROLE postgres",
		"a library":                     "LOAD '/tmp/evil.so'",
		"an end of the copy in between": "COPY notes FROM stdin;\n\\!\n\\.\n\\! touch " + proof,
	} {
		t.Run(name, func(t *testing.T) {
			var src enginetest.Memory
			src.Put(Member, bytes.Replace(whole, []byte(written), []byte(said+strings.Repeat(" ", len(written)-len(said))), 1))
			for _, parallel := range []int{1, 2} {
				err := restoreInto(t, c, engine.RestoreOptions{DropExisting: true, ParallelJobs: parallel, TempDir: t.TempDir()}, &src)
				require.Error(t, err)
				require.Contains(t, []errs.Code{errs.CodeRestoreFailed, errs.CodeDatasourcePermission}, errs.CodeOf(err), "%v", err)
				require.NoFileExists(t, proof)
				require.Equal(t, before, plain(t, pg, target))
				require.Empty(t, databases(t, pg))
			}
		})
	}
	var there bool
	require.NoError(t, pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'evil')", bystander).Scan(&there))
	require.True(t, there)
}

// A table of contents is held in memory, so it is not read for ever.
func TestATableOfContentsHasABound(t *testing.T) {
	pg := testkit.Postgres(t)
	_, dump := dumpOf(t, connTo(pg, pg.NewDatabase(t)), engine.DumpOptions{})
	r := &restore{contentsLimit: 100}
	_, err := r.readContents(iotest.OneByteReader(bytes.NewReader(dump.Bytes(Member))))
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "table of contents")
	whole, err := dump.Open(context.Background(), Member)
	require.NoError(t, err)
	defer whole.Close()
	r.contentsLimit = maxContents
	head, err := r.readContents(whole)
	require.NoError(t, err)
	rest, err := io.ReadAll(whole)
	require.NoError(t, err)
	require.Equal(t, dump.Bytes(Member), append(head, rest...))
}
