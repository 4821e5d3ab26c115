package archive_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func dump(t *testing.T, pg *testkit.PG, database string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(filepath.Join(pg.BinDir, "pg_dump"), append([]string{"--format=custom"}, args...)...)
	cmd.Env = []string{
		"PGHOST=" + pg.Host, "PGPORT=" + strconv.Itoa(pg.Port), "PGUSER=" + pg.User,
		"PGPASSWORD=" + pg.Password, "PGDATABASE=" + database,
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return out
}

func follow(t *testing.T, b []byte) *archive.Verifier {
	t.Helper()
	v := archive.NewVerifier(archive.Events{})
	_, err := v.Write(b)
	require.NoError(t, err)
	require.NoError(t, v.Done())
	return v
}

func rows(v *archive.Verifier) map[string]int64 {
	got := map[string]int64{}
	for _, e := range v.Contents() {
		if e.Desc == "TABLE DATA" {
			got[e.Name()] = e.Rows()
		}
	}
	return got
}

func TestRealDumpsAreFollowedToTheirEnd(t *testing.T) {
	pg := testkit.Postgres(t)
	cases := map[string]struct {
		sql  string
		rows map[string]int64
	}{
		"an empty database": {"", map[string]int64{}},
		"a table without rows": {
			"CREATE TABLE t (a int)", map[string]int64{"public.t": 0},
		},
		"a table without columns": {
			"CREATE TABLE t (); INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES", map[string]int64{"public.t": 2},
		},
		"line breaks and the end mark in values": {
			`CREATE TABLE t (a text); INSERT INTO t VALUES (E'1\n2\n\n\n'), (E'\\.'), (E'\\.\n\n\n'), (NULL), ('')`,
			map[string]int64{"public.t": 5},
		},
		"large objects": {
			`SELECT lo_from_bytea(0, repeat('x', 300000)::bytea) FROM generate_series(1, 40); SELECT lo_from_bytea(4000000000, 'high'); SELECT lo_create(0); CREATE TABLE t (a int); INSERT INTO t VALUES (1)`,
			map[string]int64{"public.t": 1},
		},
		"partitions and views": {
			`CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); INSERT INTO p VALUES (1), (1);
			 CREATE MATERIALIZED VIEW m AS SELECT * FROM p; CREATE VIEW v AS SELECT * FROM p`,
			map[string]int64{"public.p1": 2},
		},
		"names of all kinds": {
			"CREATE SCHEMA \"odd \"\"schema.\"; CREATE TABLE \"odd \"\"schema.\".\"-t\n😀\" (a int); INSERT INTO \"odd \"\"schema.\".\"-t\n😀\" VALUES (7)",
			map[string]int64{"odd \"schema.." + "-t\n😀": 1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			db := pg.NewDatabase(t)
			pg.Exec(t, db, c.sql)
			require.Equal(t, c.rows, rows(follow(t, dump(t, pg, db, "--compress=0"))))
			unknown := rows(follow(t, dump(t, pg, db, "--compress=6")))
			require.Len(t, unknown, len(c.rows))
			for _, n := range unknown {
				require.EqualValues(t, -1, n)
			}
			file := filepath.Join(t.TempDir(), "dump") // a file can be rewound, so its contents have offsets
			dump(t, pg, db, "--compress=0", "--file="+file)
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, c.rows, rows(follow(t, b)))
			if name == "partitions and views" {
				follow(t, dump(t, pg, db, "--compress=0", "--schema-only"))
				follow(t, dump(t, pg, db, "--compress=0", "--data-only"))
				follow(t, dump(t, pg, db, "--compress=0", "--clean", "--create"))
			}
		})
	}
}

func TestManyTablesAreCounted(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `DO $$ BEGIN FOR i IN 1..300 LOOP
		EXECUTE format('CREATE TABLE t%s AS SELECT g FROM generate_series(1, %s) g', i, i); END LOOP; END $$`)
	got := rows(follow(t, dump(t, pg, db, "--compress=0")))
	require.Len(t, got, 300)
	for i := 1; i <= 300; i++ {
		require.EqualValues(t, i, got[fmt.Sprintf("public.t%d", i)])
	}
}

// A truncated dump that pg_restore reads to its end without a complaint would
// be an artifact that lies; the verifier may only be stricter.
func TestTruncationAtEveryByteOfARealDumpIsRefused(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a (x int, y text DEFAULT 'z'); INSERT INTO a VALUES (1), (2);
		CREATE TABLE b (x int); SELECT lo_from_bytea(0, 'object')`)
	whole := dump(t, pg, db, "--compress=0")
	restore := filepath.Join(pg.BinDir, "pg_restore")
	require.NoError(t, readToEnd(restore, whole))
	for n := range whole {
		v := archive.NewVerifier(archive.Events{})
		_, err := v.Write(whole[:n])
		require.NoError(t, err, "a prefix is well-formed")
		require.Equal(t, errs.CodeDumpIncomplete, errs.CodeOf(v.Done()), "%d of %d bytes", n, len(whole))
	}
	for _, n := range []int{0, 4, 20, len(whole) / 2, len(whole) - 100, len(whole) - 6, len(whole) - 5, len(whole) - 1} {
		require.Error(t, readToEnd(restore, whole[:n]), "%d of %d bytes", n, len(whole))
	}
}

func readToEnd(restore string, b []byte) error {
	cmd := exec.Command(restore, "--file=/dev/null")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func TestFlippedBitsOfARealDumpNeverPanic(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a (x int, y text DEFAULT 'z'); INSERT INTO a VALUES (1), (2); SELECT lo_from_bytea(0, 'object')`)
	whole := dump(t, pg, db, "--compress=0")
	for i := range whole {
		for bit := range 8 {
			whole[i] ^= 1 << bit
			v := archive.NewVerifier(archive.Events{})
			_, _ = v.Write(whole)
			if err := v.Done(); err != nil {
				require.Equal(t, errs.CodeDumpIncomplete, errs.CodeOf(err))
			}
			whole[i] ^= 1 << bit
		}
	}
}
