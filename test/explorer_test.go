package test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

func TestFilesOfAStorageAreExploredWithoutTakingABackupApart(t *testing.T) {
	s := harness.NewPlane(t).Serve(t, "server")
	source := s.Plane.NewSource(t, 50)
	dir := s.StorageDir(t)
	storage := s.AddStorage(t, dir)
	job := s.AddJob(t, s.AddDatasource(t, source.Config()), storage)
	id := s.Post(t, "/api/backup-jobs/"+job+"/run", nil, http.StatusAccepted).Text("execution_id")
	backup := s.Await(t, id)
	require.Equal(t, "completed", backup.Text("status"))
	folder, part := backup.Text("backup_path"), backup.Text("chunks.0.file_path")
	files := "/api/storage-locations/" + storage + "/files"
	at := func(path string) string { return files + "?path=" + url.QueryEscape(path) }

	root := s.Get(t, files)
	require.Equal(t, dir, root.Text("root_label"))
	require.True(t, root.Null("parent_path"))
	require.JSONEq(t, `[{"name":"`+source.Database+`","path":"`+source.Database+`","kind":"folder","size_bytes":null,"modified_at":null}]`, root.At("entries").String())
	require.FileExists(t, filepath.Join(dir, ".dataguardian-storage"), "it is there, and not shown")
	inside := s.Get(t, at(folder))
	require.Equal(t, source.Database, inside.Text("parent_path"))
	require.Len(t, inside.List("entries"), len(backup.List("chunks"))+1)

	want, err := os.ReadFile(filepath.Join(dir, part))
	require.NoError(t, err)
	got := s.Do(t, http.MethodGet, files+"/download?path="+url.QueryEscape(part), nil)
	require.Equal(t, http.StatusOK, got.Status)
	require.Equal(t, want, []byte(got.Text))
	s.Do(t, http.MethodGet, files+"/download?path="+url.QueryEscape(folder), nil).Refused(t, http.StatusUnprocessableEntity, "STORAGE_FOLDER_DOWNLOAD_NOT_SUPPORTED")

	require.NoError(t, os.Symlink("/etc", filepath.Join(dir, "planted")))
	for _, path := range []string{"../x", "/etc/passwd", "planted", "planted/passwd", `a\b`, "a\x00b", ".dataguardian-storage", ".dataguardian-tmp"} {
		s.Do(t, http.MethodGet, at(path), nil).Refused(t, http.StatusUnprocessableEntity, "VALIDATION_ERROR")
		s.Do(t, http.MethodDelete, at(path)+"&force=true", nil).Refused(t, http.StatusUnprocessableEntity, "VALIDATION_ERROR")
		s.Do(t, http.MethodGet, files+"/download?path="+url.QueryEscape(path), nil).Refused(t, http.StatusUnprocessableEntity, "VALIDATION_ERROR")
		s.Do(t, http.MethodPost, files+"/copy", config{"source_path": part, "destination_path": path}).Refused(t, http.StatusUnprocessableEntity, "VALIDATION_ERROR")
	}

	copied := s.Post(t, files+"/copy", config{"source_path": part, "destination_path": "kept/part"}, http.StatusOK)
	require.Equal(t, "kept/part", copied.Text("path"))
	s.Do(t, http.MethodPost, files+"/copy", config{"source_path": part, "destination_path": "kept/part"}).Refused(t, http.StatusConflict, "CONFLICT")
	same, err := os.ReadFile(filepath.Join(dir, "kept/part"))
	require.NoError(t, err)
	require.Equal(t, want, same)
	s.Do(t, http.MethodDelete, at("kept"), nil).Expect(t, http.StatusNoContent)
	require.NoFileExists(t, filepath.Join(dir, "kept/part"))

	for _, path := range []string{source.Database, folder, part, folder + "/manifest.json"} {
		refused := s.Do(t, http.MethodDelete, at(path), nil)
		refused.Refused(t, http.StatusConflict, "RESOURCE_IN_USE")
		require.Equal(t, id, refused.Expect(t, http.StatusConflict).Text("details.backups.0.execution_id"))
	}
	require.FileExists(t, filepath.Join(dir, part))

	s.Do(t, http.MethodDelete, at(part)+"&force=true", nil).Expect(t, http.StatusNoContent)
	copies := s.Get(t, "/api/executions/"+id).At("metadata.storage_results")
	require.NotEqual(t, "available", copies.Text("0.status"), "%s", copies)
	s.Do(t, http.MethodGet, at(part), nil).Refused(t, http.StatusNotFound, "NOT_FOUND")

	s.Backup(t, job)
	s.Do(t, http.MethodDelete, "/api/executions/"+id, nil).Expect(t, http.StatusNoContent)
	s.Do(t, http.MethodGet, at(folder), nil).Refused(t, http.StatusNotFound, "NOT_FOUND")
}

func TestADatabaseIsLookedIntoAndNotChanged(t *testing.T) {
	s := harness.NewPlane(t).Serve(t, "server")
	source := s.Plane.NewSource(t, 1500)
	datasource := s.AddDatasource(t, source.Config())
	name := s.Get(t, "/api/datasources/"+datasource).Text("name")
	base := "/api/datasources/" + datasource

	schema := s.Get(t, base+"/schema")
	require.JSONEq(t, `{"name":"id","type":"bigint","nullable":false,"primaryKey":true,"unique":true,"foreignKey":null,"defaultValue":null}`, schema.At("0.tables.0.columns.0").String())
	r := s.Post(t, base+"/query", config{"sql": "SELECT id, length(body) FROM notes ORDER BY id"}, http.StatusOK)
	require.EqualValues(t, 1000, r.Int("rowCount"))
	require.JSONEq(t, `[1, 1024]`, r.At("rows.0").String())
	require.Contains(t, r.Text("message"), "1000")
	for sql, code := range map[string]string{
		"DELETE FROM notes": "25006", "SELECT 1; DELETE FROM notes": "42601", "COPY notes TO PROGRAM 'true'": "25006", "COMMIT": "25006",
		"WITH gone AS (DELETE FROM notes RETURNING id) SELECT * FROM gone": "25006", "SELECT * FROM nothing": "42P01",
	} {
		refused := s.Do(t, http.MethodPost, base+"/query", config{"sql": sql})
		refused.Refused(t, http.StatusUnprocessableEntity, "QUERY_EXECUTION_FAILED")
		require.Equal(t, code, refused.Expect(t, http.StatusUnprocessableEntity).Text("details.code"), sql)
	}
	require.EqualValues(t, 1500, s.Post(t, base+"/query", config{"sql": "TABLE recent LIMIT 1"}, http.StatusOK).Int("rows.0.0"))

	c := cli{t, s}
	c.says("bigint", "datasource", "schema", name, "--table", "notes")
	c.says("1500", "datasource", "query", name, "SELECT count(*) FROM notes")
	require.JSONEq(t, `[[1500]]`, c.json("datasource", "query", name, "SELECT count(*) FROM notes").At("rows").String())
	require.Equal(t, "public", c.json("datasource", "schema", name).Text("0.name"))
	c.fails("QUERY_EXECUTION_FAILED", "datasource", "query", name, "DROP TABLE notes")
}
