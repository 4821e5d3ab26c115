package test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

// TestTheRecordsThemselvesComeBack backs up the metadata as one more database: it is not
// restored under the feet of who restores it, and by the page it opens with the key file.
func TestTheRecordsThemselvesComeBack(t *testing.T) {
	p := harness.NewPlane(t)
	s := p.Serve(t, "one")
	pg := testkit.Postgres(t)
	own, err := url.Parse(p.DSN)
	require.NoError(t, err)
	password, _ := own.User.Password()
	port, err := strconv.Atoi(own.Port())
	require.NoError(t, err)
	storage := s.AddStorage(t, s.StorageDir(t))
	source := p.NewSource(t, 20)
	shop := s.AddDatasource(t, source.Config())
	backup := s.Backup(t, s.AddJob(t, shop, storage)).Text("id")
	records := s.AddDatasource(t, config{"host": own.Hostname(), "port": port, "database": strings.TrimPrefix(own.Path, "/"),
		"username": own.User.Username(), "password": password})
	job := s.AddJob(t, records, storage)
	e := s.Backup(t, job)

	id := s.Post(t, restorePath(e.Text("id")), config{"drop_existing": true}, http.StatusAccepted).Text("execution_id")
	refused := s.Await(t, id)
	require.Equal(t, "failed", refused.Text("status"), "%s", refused)
	require.Equal(t, "RESTORE_NOT_SUPPORTED", refused.Text("error_code"), "%s", refused)
	require.Contains(t, refused.Text("error_message"), "its records")

	block := pageCommands(t, "DataGuardian's own records")[0]
	const name = "dataguardian_restored"
	commands, start, found := strings.Cut(block, "\ndataguardian serve ")
	require.True(t, found, block)
	require.Contains(t, start, "--key-file")
	target := pg.NewDatabase(t)
	pg.Exec(t, "postgres", "DROP DATABASE "+target) // the page creates it
	follow(t, downloaded(t, s, e.Text("id")), strings.ReplaceAll(commands, name, target),
		"PGHOST="+pg.Host, fmt.Sprintf("PGPORT=%d", pg.Port), "PGUSER="+pg.User, "PGPASSWORD="+pg.Password)

	again := p.LaunchAPI(t, "restored", nil, "serve", "--database-url", pg.DSN(target), "--key-file", p.KeyFile,
		"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--roles", "api")
	require.Equal(t, "completed", again.Get(t, "/api/executions/"+backup).Text("status"))
	require.Equal(t, "ok", again.Post(t, "/api/datasources/"+shop+"/test", nil, http.StatusOK).Text("status"), "its password opens")
}
