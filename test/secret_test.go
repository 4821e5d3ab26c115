package test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

// The rest of what must hold no secret is searched after every test, see
// harness.Plane.CheckSecrets.
func noSecretInTheProcessList(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	release := source.Lock(t)
	id := s.Run(t, job)
	source.AwaitDump(t)
	var dump *harness.Child
	for _, child := range s.Children(t) {
		require.NotContains(t, strings.Join(child.Args, " "), s.Plane.Secret)
		for _, v := range child.Environment {
			if v == "PGDATABASE="+source.Database {
				dump = &child
			}
		}
	}
	require.NotNil(t, dump, "no pg_dump runs")
	require.Equal(t, "pg_dump", filepath.Base(dump.Args[0]))
	for _, connection := range []string{source.Database, source.User, source.PG.Host} {
		require.NotContains(t, strings.Join(dump.Args, " "), connection, "what connects does not travel in arguments")
	}
	var names []string
	for _, v := range dump.Environment {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "PG") {
			names = append(names, name)
		}
	}
	require.ElementsMatch(t, []string{"PATH", "LC_ALL", "TZ", "HOME", "TMPDIR"}, names, "nothing of our environment is handed on")
	release()
	require.Equal(t, "completed", s.Await(t, id).Text("status"))
}
