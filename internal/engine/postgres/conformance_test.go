package postgres

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// server lets the suite use a PostgreSQL server.
type server struct{ *testkit.PG }

func (s server) Conn(database string) engine.Conn { return connTo(s.PG, database) }

func (s server) Drop(t testing.TB, database string) {
	s.Exec(t, "postgres", "DROP DATABASE IF EXISTS "+pgx.Identifier{database}.Sanitize())
}

func (s server) Exec(t testing.TB, database, statements string) { s.PG.Exec(t, database, statements) }

func (s server) Fingerprint(t testing.TB, database string) string { return plain(t, s.PG, database) }

// sharer shares out every table, page by page.
func sharer(c Config) *Engine {
	e := New(c)
	e.shareFrom, e.sliceSize = 0, 8<<10
	return e
}

func TestConformance(t *testing.T) {
	enginetest.Run(t, enginetest.Subject{
		Engine:    sharer(Config{}),
		Server:    server{testkit.Postgres(t)},
		NewServer: func(t testing.TB) enginetest.MortalServer { return server{testkit.NewPostgres(t)} },
		Format:    Format, Member: Member,
		Hostile: richDatabase,
		HostileTables: map[string]int64{
			"people": 500, "pets": 300, "log": -1, "log_old": 30, "log_new": 70, "scratch": 0, "odd \"schema..-t\n😀": 1,
		},
		Large:      "CREATE TABLE large AS SELECT g, repeat(md5(g::text), 30) t FROM generate_series(1, 13000) g",
		Small:      "CREATE TABLE small AS SELECT g FROM generate_series(1, 3) g",
		Everything: everythingOf(testkit.Postgres(t).Major), Parallel: true,
		Dialect: enginetest.Dialect{
			Quote: func(name string) string { return pgx.Identifier{name}.Sanitize() },
			Text:  `convert_from('\x%s', 'UTF8')`, Bytes: `'\x%s'::bytea`, TextType: "text", BytesType: "bytea", NumberType: "bigint",
		},
	})
}

func TestTLSModes(t *testing.T) {
	files := enginetest.NewTLSFiles(t, "postgres")
	pg := testkit.NewPostgres(t, testkit.WithSetting("ssl", "on"),
		testkit.WithSetting("ssl_cert_file", files.Cert), testkit.WithSetting("ssl_key_file", files.Key))
	enginetest.RunTLS(t, enginetest.Subject{
		Engine: New(Config{}), Server: server{pg}, Member: Member,
		Small: "CREATE TABLE small AS SELECT g FROM generate_series(1, 3) g",
	}, files)
}

func TestALargeValueComesBackInBoundedMemory(t *testing.T) {
	value := fmt.Sprintf("repeat(md5('x'), %d / 32)", enginetest.LargeValue)
	enginetest.RunValue(t, enginetest.Subject{Engine: New(Config{}), Server: server{testkit.Postgres(t)}, Format: Format},
		"CREATE TABLE vast AS SELECT "+value+" v",
		"DO $$ BEGIN ASSERT (SELECT v = "+value+" FROM vast); END $$")
}

func TestThousandsOfTablesComeBack(t *testing.T) {
	enginetest.RunTables(t, enginetest.Subject{Engine: New(Config{}), Server: server{testkit.Postgres(t)}, Format: Format, Member: Member}, enginetest.VastTables,
		"DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE format('CREATE TABLE t%%s AS SELECT %%s AS g', i, i); END LOOP; END $$",
		`DO $$ DECLARE found int; BEGIN
	FOR i IN 1..%d LOOP EXECUTE format('SELECT g FROM t%%s', i) INTO found; ASSERT found = i; END LOOP;
END $$`)
}
