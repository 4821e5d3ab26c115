package test

import (
	"bytes"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/dataguardian/dataguardian/test/harness"
)

// pageName is what the page calls the restored database.
const pageName = "shop_restored"

// pageCommands returns the blocks of shell commands below a heading of
// docs/recovery.md, in order.
func pageCommands(t *testing.T, heading string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "docs", "recovery.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(raw), "\n## "+heading+"\n")
	require.True(t, found, "the page has no section %q", heading)
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for {
		_, rest, found := strings.Cut(section, "\n```sh\n")
		if !found {
			require.NotEmpty(t, blocks, "section %q has no commands", heading)
			return blocks
		}
		block, after, closed := strings.Cut(rest, "\n```")
		require.True(t, closed)
		blocks, section = append(blocks, block), after
	}
}

// follow runs commands of the page in a directory.
func follow(t *testing.T, dir, commands string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "HOME="+dir), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", commands, out)
}

// restoring is a block that restores, with the name of the page replaced.
func restoring(t *testing.T, block, database string) string {
	t.Helper()
	require.Equal(t, 2, strings.Count(block, pageName), block)
	return strings.ReplaceAll(block, pageName, database)
}

// downloaded fetches a backup with the program, as the page says, and proves its
// parts with the page's script.
func downloaded(t *testing.T, s *harness.Server, execution string) string {
	t.Helper()
	to := t.TempDir()
	r := s.CLI(t, "backup", "download", execution, "--to", to)
	require.Zero(t, r.Code, r.Stderr)
	found, err := filepath.Glob(filepath.Join(to, "*"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	block := pageCommands(t, "Check the parts")[0]
	const example = "demo_shop/2026-11-24_030000_1a2b3c4d"
	require.Contains(t, block, example)
	follow(t, to, strings.ReplaceAll(block, example, filepath.Base(found[0])))
	return found[0]
}

// keyPair makes a recipient, and puts its secret key where the page expects it.
func keyPair(t *testing.T) (recipient string, put func(dir string)) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	return identity.Recipient().String(), func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "key.txt"), []byte(identity.String()+"\n"), 0o600))
	}
}

// notesIn counts and hashes the content of a database of PostgreSQL.
func notesIn(t *testing.T, pg *testkit.PG, database string) string {
	t.Helper()
	var content string
	require.NoError(t, pg.Conn(t, database).QueryRow(t.Context(),
		`SELECT count(*) || ' ' || md5(string_agg(n::text, E'\n' ORDER BY id)) || ' ' || (SELECT md5(string_agg(r::text, ',')) FROM recent r)
		FROM notes n`).Scan(&content))
	return content
}

// shop fills a database of MariaDB: a table with every awkward byte, and a view, a
// trigger and a routine.
func shop(t *testing.T, m *testkit.Maria) string {
	t.Helper()
	database := m.NewDatabase(t)
	m.Exec(t, database, `CREATE TABLE notes (id bigint PRIMARY KEY, body longtext NOT NULL, raw varbinary(64));
		INSERT INTO notes SELECT seq, CONCAT('über \\! \\- "quoted" ', SHA2(seq, 512)), UNHEX(SHA2(seq, 256)) FROM seq_1_to_2000;
		CREATE VIEW recent AS SELECT id, body FROM notes WHERE id > 1990;
		CREATE TABLE changes (id bigint);
		CREATE TRIGGER noted AFTER DELETE ON notes FOR EACH ROW INSERT INTO changes VALUES (OLD.id);
		CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN 2 * n;`)
	return database
}

// shopIn describes the content of a database of MariaDB.
func shopIn(t *testing.T, m *testkit.Maria, database string) string {
	t.Helper()
	db := m.DB(t, database)
	scan := func(query string, values ...any) {
		require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(values...))
	}
	var rows, recent, twice, triggers int
	var hash string
	var name sql.NullString
	var checksum int64
	scan("SELECT count(*), SHA2(GROUP_CONCAT(SHA2(CONCAT(id, body, HEX(raw)), 256) ORDER BY id), 256) FROM notes", &rows, &hash)
	scan("CHECKSUM TABLE notes", &name, &checksum)
	scan("SELECT count(*), twice(21) FROM recent", &recent, &twice)
	scan("SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = DATABASE()", &triggers)
	require.Equal(t, []int{10, 42, 1}, []int{recent, twice, triggers})
	return fmt.Sprintf("%d rows %s %d", rows, hash, checksum)
}

// mariaConfig is the connection_config of a database of MariaDB.
func mariaConfig(m *testkit.Maria, database string) config {
	return config{"host": m.Host, "port": m.Port, "database": database, "username": m.User, "password": m.Password}
}

// addDatasource creates a datasource of any type.
func addDatasource(t *testing.T, s *harness.Server, name, kind string, connection config) string {
	t.Helper()
	return s.Post(t, "/api/datasources", config{"name": name, "type": kind, "connection_config": connection}, http.StatusCreated).Text("id")
}

// addStorage creates a storage location of any type.
func addStorage(t *testing.T, s *harness.Server, name, kind string, settings config) string {
	t.Helper()
	return s.Post(t, "/api/storage-locations", config{"name": name, "type": kind, "config": settings}, http.StatusCreated).Text("id")
}

// s3Config is the config of a bucket that is reached at endpoint.
func s3Config(server *storagetest.S3Server, endpoint, bucket string) config {
	return config{"endpoint": endpoint, "region": server.Region, "bucket": bucket, "prefix": "dg",
		"access_key_id": server.AccessKey, "secret_access_key": server.SecretKey, "force_path_style": true}
}

func TestRecoveryPageRestoresPostgreSQL(t *testing.T) {
	s := harness.NewPlane(t).Serve(t, "one")
	source := s.Plane.NewSource(t, 4000) // about 2.5 MB of stored bytes
	datasource, storage := s.AddDatasource(t, source.Config()), s.AddStorage(t, s.StorageDir(t))
	want := notesIn(t, source.PG, source.Database)
	recipient, putKey := keyPair(t)
	commands, several := pageCommands(t, "PostgreSQL"), pageCommands(t, "PostgreSQL, dumped by several connections")
	require.Len(t, commands, 2)
	require.Len(t, several, 2)
	fill := func() { // a table that is shared out
		_, err := source.Connect(t).Exec(t.Context(), `CREATE TABLE IF NOT EXISTS wide AS SELECT g, repeat(md5(g::text), 30) AS body FROM generate_series(1, 12000) g`)
		require.NoError(t, err)
	}
	wideIn := func(database string) (found string) {
		if err := source.PG.Conn(t, database).QueryRow(t.Context(), "SELECT count(*) || md5(string_agg(w::text, ',' ORDER BY g)) FROM wide w").Scan(&found); err != nil {
			return err.Error()
		}
		return found
	}
	for _, way := range []struct {
		name, block string
		options     config
		parts       bool
	}{
		{"not encrypted", commands[0], config{}, false},
		{"not encrypted, in parts", commands[0], config{"max_file_size_mb": 1}, true},
		{"encrypted, in parts", commands[1], config{"max_file_size_mb": 1, "encryption": config{"recipients": []string{recipient}}}, true},
		{"by several connections", several[0], config{"parallel_jobs": 2}, true},
		{"by several connections, encrypted, in parts", several[1],
			config{"parallel_jobs": 3, "max_file_size_mb": 1, "spool": "bounded", "encryption": config{"recipients": []string{recipient}}}, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			if way.options["parallel_jobs"] != nil {
				fill()
			}
			e := s.Backup(t, s.AddJob(t, datasource, storage, config{"backup_options": way.options}))
			require.Equal(t, way.parts, e.Number("files_count") > 1, "%s", e)
			dir := downloaded(t, s, e.Text("id"))
			putKey(dir)
			target := source.PG.NewDatabase(t)
			source.PG.Exec(t, "postgres", "DROP DATABASE "+target) // the page creates it
			follow(t, dir, restoring(t, way.block, target), "PGHOST="+source.PG.Host, fmt.Sprintf("PGPORT=%d", source.PG.Port),
				"PGUSER="+source.PG.User, "PGPASSWORD="+source.PG.Password)
			require.Equal(t, want, notesIn(t, source.PG, target))
			require.Equal(t, wideIn(source.Database), wideIn(target))
			members, err := filepath.Glob(filepath.Join(dir, "backup-*.dump.*"))
			require.NoError(t, err)
			require.Equal(t, way.options["parallel_jobs"] != nil, len(members) >= 3, "%v", members)
		})
	}
}

func TestRecoveryPageRestoresMariaDB(t *testing.T) {
	m, server := testkit.MariaDB(t), storagetest.StartS3(t)
	s := harness.NewPlane(t).Serve(t, "one")
	database := shop(t, m)
	want := shopIn(t, m, database)
	datasource := addDatasource(t, s, "shop", "mariadb", mariaConfig(m, database))
	storage := addStorage(t, s, "bucket", "s3", s3Config(server, server.Endpoint, server.NewBucket(t)))
	recipient, putKey := keyPair(t)
	commands := pageCommands(t, "MySQL and MariaDB")
	require.Len(t, commands, 3)
	plain := s.Backup(t, s.AddJob(t, datasource, storage)).Text("id")
	sealed := s.Backup(t, s.AddJob(t, datasource, storage,
		config{"backup_options": config{"encryption": config{"recipients": []string{recipient}}}})).Text("id")
	for _, way := range []struct{ name, execution, block string }{
		{"not encrypted", plain, commands[0]},
		{"encrypted", sealed, commands[1]},
		{"by a client without a sandbox", plain, commands[2]},
	} {
		t.Run(way.name, func(t *testing.T) {
			dir := downloaded(t, s, way.execution)
			putKey(dir)
			var settings bytes.Buffer
			fmt.Fprintf(&settings, "[client]\nhost=%s\nport=%d\nuser=%s\npassword=%s\n", m.Host, m.Port, m.User, m.Password)
			require.NoError(t, os.WriteFile(filepath.Join(dir, ".my.cnf"), settings.Bytes(), 0o600))
			target := m.NewDatabase(t)
			m.Exec(t, "", "DROP DATABASE "+target) // the page creates it
			follow(t, dir, restoring(t, way.block, target))
			require.Equal(t, want, shopIn(t, m, target))
		})
	}
}
