package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestHostileDirectoryNamesWork(t *testing.T) {
	for _, name := range []string{
		`it's "a" place`, "ünïcödé 数据", "a,b", `-D $HOME;\'`, "%2f+%%?&#=@:",
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(testkit.Dir(t), name)
			c := start(t, Config{DataDir: dir})
			require.Equal(t, 1, query[int](t, c, "postgres", "SELECT 1"))
			require.FileExists(t, filepath.Join(dir, "postgres", "PG_VERSION"))
		})
	}
}

func TestLongPathPutsTheSocketIntoTheTemporaryDirectory(t *testing.T) {
	dir := filepath.Join(testkit.Dir(t), strings.Repeat("long", 25))
	c := start(t, Config{DataDir: dir})
	sockets := c.SocketDir()
	require.Equal(t, os.TempDir(), filepath.Dir(sockets))
	require.Equal(t, os.FileMode(0o700), mode(t, sockets))
	require.Equal(t, 1, query[int](t, c, "postgres", "SELECT 1"))
	stop(t, c)
	require.NoDirExists(t, sockets)

	require.NoError(t, os.Mkdir(sockets, 0o777))
	require.NoError(t, os.Chmod(sockets, 0o777))
	t.Cleanup(func() { require.NoError(t, os.Remove(sockets)) })
	_, err := Start(t.Context(), Config{DataDir: dir})
	refused(t, err, CodeDataDir, sockets, "remove it")
}

func TestPlantedSocketDirectoriesAreRefused(t *testing.T) {
	me, dir := currentAccount(), testkit.Dir(t)
	good := filepath.Join(dir, "good")
	require.NoError(t, makeSocketDir(good, me))
	require.NoError(t, makeSocketDir(good, me), "it may be there from the last start")

	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink(good, link))
	refused(t, makeSocketDir(link, me), CodeDataDir, link)

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o700))
	refused(t, makeSocketDir(file, me), CodeDataDir, file)

	somebody := account{uid: me.uid + 1}
	if os.Geteuid() == 0 {
		require.NoError(t, os.Lchown(good, 65534, 65534))
		refused(t, makeSocketDir(good, somebody), CodeDataDir, good)
	} else {
		require.NoError(t, makeSocketDir(good, somebody), "ours, not given away yet")
	}
}

func TestUnreachableAncestorMovesTheClusterAside(t *testing.T) {
	private := filepath.Join(testkit.Dir(t), "private")
	require.NoError(t, os.Mkdir(private, 0o700))
	dir, root := filepath.Join(private, "data"), filepath.Join(testkit.Dir(t), "aside")
	var log lines
	config := Config{DataDir: dir, FallbackRoot: root, Logger: log.logger()}
	c := start(t, config)
	exec1(t, c, "postgres", "CREATE TABLE t AS SELECT 7 AS n")
	stop(t, c)

	target, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	require.NoError(t, err)
	if os.Geteuid() != 0 { // nothing is out of one's own reach
		require.Equal(t, filepath.Join(dir, "postgres"), target)
		return
	}
	require.Equal(t, 1, strings.Count(log.String(), "the cluster goes elsewhere"))
	base := filepath.Dir(target)
	require.Equal(t, root, filepath.Dir(base))
	require.Equal(t, os.FileMode(0o700), mode(t, base))
	require.Equal(t, filepath.Join(base, "run"), c.SocketDir())
	entries, err := os.ReadDir(base)
	require.NoError(t, err)
	require.Len(t, entries, 2, "cluster and socket, nothing of initdb: %v", entries)

	// A later start that was killed must not take the cluster along.
	require.NoError(t, os.Symlink(filepath.Join(root, "cluster-0bad", "postgres"), filepath.Join(dir, sitePrefix+"0bad")))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "cluster-0bad", "postgres"), 0o700))
	c = start(t, config)
	require.Equal(t, 7, query[int](t, c, "postgres", "SELECT n FROM t"))
	require.NoDirExists(t, filepath.Join(root, "cluster-0bad"))
	require.NoFileExists(t, filepath.Join(dir, sitePrefix+"0bad"))
}

func TestSweepFollowsNoLinkOfOthers(t *testing.T) {
	dir, victim := testkit.Dir(t), testkit.Dir(t)
	require.NoError(t, os.Mkdir(filepath.Join(victim, "postgres"), 0o700))
	require.NoError(t, os.Symlink(filepath.Join(victim, "postgres"), filepath.Join(dir, sitePrefix+"1234")))
	require.NoError(t, sweepSites(Config{DataDir: dir, FallbackRoot: filepath.Join(dir, "none")}))
	require.DirExists(t, filepath.Join(victim, "postgres"))
	require.NoFileExists(t, filepath.Join(dir, sitePrefix+"1234"))
}
