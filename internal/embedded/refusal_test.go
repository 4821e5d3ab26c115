package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestWhatIsNotOurClusterIsRefusedAndNotTouched(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		if a, err := newClusterAccount(); filepath.Base(path) == "PG_VERSION" {
			require.NoError(t, err)
			require.NoError(t, a.give(filepath.Dir(path)))
		}
	}
	for name, test := range map[string]struct {
		plant func(t *testing.T, cluster string)
		code  errs.Code
		words []string
	}{
		"a directory with somebody's files": {
			func(t *testing.T, d string) { write(t, filepath.Join(d, "photo.jpg"), "x") },
			CodeDataDir, []string{"no PG_VERSION", "nothing was touched"},
		},
		"a cluster of a release that is not installed": {
			func(t *testing.T, d string) { write(t, filepath.Join(d, "PG_VERSION"), "99\n") },
			CodeMajorMissing, []string{"PostgreSQL 99", "installed server is 1", "apt-get install postgresql-99"},
		},
		"a cluster of an ancient release": {
			func(t *testing.T, d string) { write(t, filepath.Join(d, "PG_VERSION"), "9.6\n") },
			CodeMajorMissing, []string{"PostgreSQL 9 "},
		},
		"a broken PG_VERSION": {
			func(t *testing.T, d string) { write(t, filepath.Join(d, "PG_VERSION"), "?") },
			CodeDataDir, []string{"PG_VERSION", "backup"},
		},
		"a file in its place": {
			func(t *testing.T, d string) { write(t, d, "x") },
			CodeDataDir, []string{"not a directory"},
		},
		"a link that leads nowhere": {
			func(t *testing.T, d string) { require.NoError(t, os.Symlink("/nonexistent/cluster", d)) },
			CodeDataDir, []string{"leads nowhere"},
		},
		"a link to an empty directory, such as a disk not mounted": {
			func(t *testing.T, d string) { require.NoError(t, os.Symlink(testkit.Dir(t), d)) },
			CodeDataDir, []string{"mount its disk"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testkit.Dir(t)
			cluster := filepath.Join(dir, "postgres")
			test.plant(t, cluster)
			before := tree(t, cluster)
			_, err := Start(t.Context(), Config{DataDir: dir})
			refused(t, err, test.code, test.words...)
			require.Equal(t, before, tree(t, cluster))
			require.NoFileExists(t, filepath.Join(dir, "postgres-password"))
		})
	}
}

func TestPasswordFileThatIsLostOrWrongIsNamed(t *testing.T) {
	dir := testkit.Dir(t)
	path := filepath.Join(dir, "postgres-password")
	c := start(t, Config{DataDir: dir})
	stop(t, c)

	require.NoError(t, os.WriteFile(path, []byte("wrong\n"), 0o600))
	_, err := Start(t.Context(), Config{DataDir: dir})
	refused(t, err, CodeStart, path)

	require.NoError(t, os.Remove(path))
	_, err = Start(t.Context(), Config{DataDir: dir})
	refused(t, err, CodeDataDir, path, "missing")

	require.NoError(t, os.WriteFile(path, []byte(c.Password()), 0o644))
	start(t, Config{DataDir: dir})
	require.Equal(t, os.FileMode(0o600), mode(t, path))
}

func TestEmptyClusterDirectoryIsFilled(t *testing.T) {
	dir := testkit.Dir(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "postgres"), 0o755))
	c := start(t, Config{DataDir: dir})
	require.Equal(t, 1, query[int](t, c, "postgres", "SELECT 1"))
	require.Equal(t, os.FileMode(0o700), mode(t, filepath.Join(dir, "postgres")))
}

func TestServerThatDoesNotComeUpSaysWhy(t *testing.T) {
	dir := testkit.Dir(t)
	c := start(t, Config{DataDir: dir})
	stop(t, c)
	require.NoError(t, os.Remove(filepath.Join(c.home.dir, "global", "pg_control")))
	_, err := Start(t.Context(), Config{DataDir: dir})
	refused(t, err, CodeStart, "did not start", "postgres.log")
	require.ErrorContains(t, err, "could not find the database system")
}

func TestMissingProgramsComeWithTheWayToInstallThem(t *testing.T) {
	dir := testkit.Dir(t)
	_, err := Start(t.Context(), Config{DataDir: filepath.Join(dir, "data"), BinDir: filepath.Join(dir, "bin")})
	refused(t, err, CodeNotInstalled, "apt-get install postgresql", "--database-url")
	require.NoDirExists(t, filepath.Join(dir, "data", "postgres"))
}

func TestUnusableDataDirectoryIsRefused(t *testing.T) {
	_, err := Start(t.Context(), Config{})
	refused(t, err, CodeDataDir, "--data-dir")
	_, err = Start(t.Context(), Config{DataDir: testkit.Dir(t) + "/new\nline"})
	refused(t, err, CodeDataDir, "line break")
	file := filepath.Join(testkit.Dir(t), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Start(t.Context(), Config{DataDir: file})
	refused(t, err, CodeDataDir, file)
}

func TestExistingClusterPicksItsOwnMajorAndANewOneTheNewest(t *testing.T) {
	found := map[int]install{14: {major: 14}, 17: {major: 17}, 9: {major: 9}}
	i, err := choose(found, home{})
	require.NoError(t, err)
	require.Equal(t, 17, i.major)
	i, err = choose(found, home{exists: true, major: 14})
	require.NoError(t, err)
	require.Equal(t, 14, i.major)
	_, err = choose(found, home{exists: true, major: 16})
	refused(t, err, CodeMajorMissing, "16", "9 14 17")
}

func TestVersionLinesOfManyReleasesAreRead(t *testing.T) {
	for line, want := range map[string][]string{
		"postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n": {"15.14", "15"},
		"postgres (PostgreSQL) 18beta1\n":                        {"18beta1", "18"},
		"postgres (PostgreSQL) 9.6.24":                           {"9.6.24", "9"},
	} {
		require.Equal(t, want, versionLine.FindStringSubmatch(line)[1:])
	}
	require.Nil(t, versionLine.FindStringSubmatch("postgres 15"))
}

func TestServerLogStaysWithinItsBounds(t *testing.T) {
	var out lines
	path := filepath.Join(testkit.Dir(t), "postgres.log")
	l, err := openServerLog(path, 1000, out.logger())
	require.NoError(t, err)
	for range 100 {
		l.write([]byte(strings.Repeat("x", 99) + "\n"))
	}
	l.write([]byte("2026-01-01 [1] FATAL:  no\n"))
	require.NoError(t, l.close())
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(1000))
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	require.NotContains(t, out.String(), "level=WARN", "what ends one session is for its client")
	require.Contains(t, l.last(), "FATAL")
}

func TestFullDiskCostsLogLinesOnly(t *testing.T) {
	var out lines
	l, err := openServerLog("/dev/full", 1000, out.logger())
	require.NoError(t, err)
	for range 5 {
		l.write([]byte("line\n"))
	}
	require.NoError(t, l.close())
	require.Equal(t, 1, strings.Count(out.String(), "level=ERROR"))
}
