package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/errs"
)

func TestASchemaIsABareList(t *testing.T) {
	a := start(t)
	got := a.call(http.MethodGet, "/api/datasources/"+someID+"/schema", "")
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `[{"name":"public","tables":[
		{"name":"pets","columns":[
			{"name":"id","type":"integer","nullable":false,"primaryKey":true,"unique":true,"foreignKey":null,"defaultValue":null},
			{"name":"owner","type":"bigint","nullable":true,"primaryKey":false,"unique":false,"foreignKey":"public.people.id","defaultValue":"1"}]},
		{"name":"none","columns":[]}]},{"name":"empty","tables":[]}]`, got.text)
	require.Equal(t, "NOT_FOUND", a.call(http.MethodGet, "/api/datasources/"+unknownID+"/schema", "").code(t))
}

func TestAQueryAnswersRowsOrTheServersCode(t *testing.T) {
	a := start(t)
	path := "/api/datasources/" + someID + "/query"
	got := a.call(http.MethodPost, path, `{"sql":"SELECT 1"}`)
	require.Equal(t, http.StatusOK, got.status)
	require.JSONEq(t, `{"columns":["a","b"],"rows":[[1,{"x":[null,true]}],["9223372036854775807",null]],"rowCount":2,"executionTime":12,"message":"there are more rows"}`, got.text)

	got = a.call(http.MethodPost, path, `{"sql":"SELEC"}`)
	require.Equal(t, http.StatusUnprocessableEntity, got.status)
	require.JSONEq(t, `{"error":"QUERY_EXECUTION_FAILED","message":"the database refused the statement","details":{"code":"42601","position":3}}`, got.text)
	for _, body := range []string{`{}`, `{"sql":""}`, `{"sql":"` + strings.Repeat("x", 100_001) + `"}`} {
		require.Equal(t, []string{"sql"}, a.call(http.MethodPost, path, body).fields(t))
	}
}

func TestFilesHaveTheShapeOfTheContract(t *testing.T) {
	a := start(t)
	base := "/api/storage-locations/" + someID + "/files"
	require.JSONEq(t, `{"storage_location_id":"`+someID+`","current_path":"shop","parent_path":"","root_label":"/backups","truncated":true,"entries":[
		{"name":"deep","path":"shop/deep","kind":"folder","size_bytes":null,"modified_at":null},
		{"name":"file","path":"shop/file","kind":"file","size_bytes":"1099511627776","modified_at":"2026-11-24T12:00:00Z"}]}`,
		a.call(http.MethodGet, base+"?path=shop", "").text)
	require.Equal(t, http.StatusOK, a.call(http.MethodGet, base, "").status)
	require.Equal(t, []string{"path"}, a.call(http.MethodGet, base+"?path="+strings.Repeat("x", 1025), "").fields(t))

	refused := a.call(http.MethodDelete, base+"?path=shop", "")
	require.Equal(t, http.StatusConflict, refused.status)
	require.JSONEq(t, `{"error":"RESOURCE_IN_USE","message":"a backup needs it","details":{"backups":[{"execution_id":"`+someID+`"}],"total":1}}`, refused.text)
	require.Equal(t, http.StatusNoContent, a.call(http.MethodDelete, base+"?path=shop&force=true", "").status)
	require.Equal(t, []string{"path"}, a.call(http.MethodDelete, base+"?force=true", "").fields(t))

	copied := a.call(http.MethodPost, base+"/copy", `{"source_path":"a","destination_path":"b"}`)
	require.Equal(t, http.StatusOK, copied.status)
	require.JSONEq(t, `{"name":"b","path":"b","kind":"file","size_bytes":"3","modified_at":"2026-11-24T12:00:00Z"}`, copied.text)
	require.Equal(t, []string{"destination_path", "source_path"}, sorted(a.call(http.MethodPost, base+"/copy", `{}`).fields(t)))
}

func sorted(names []string) []string {
	if len(names) == 2 && names[0] > names[1] {
		names[0], names[1] = names[1], names[0]
	}
	return names
}

func TestAFileIsDownloadedAsItIs(t *testing.T) {
	a := start(t)
	path := "/api/storage-locations/" + someID + "/files/download?path=x"
	for name, header := range map[string]string{
		"backup.dump.zst": `attachment; filename=backup.dump.zst`,
		"a \"b\"; c=d":    `attachment; filename="a \"b\"; c=d"`,
		"🐘.age":           `attachment; filename*=utf-8''%F0%9F%90%98.age`,
	} {
		for _, body := range []string{"", "x", strings.Repeat("0123456789abcdef", 50_000), "\n\x00\xff"} {
			a.files.name, a.files.body = name, body
			got := a.call(http.MethodGet, path, "")
			require.Equal(t, http.StatusOK, got.status)
			require.Equal(t, header, got.header.Get("Content-Disposition"))
			require.Equal(t, "application/octet-stream", got.header.Get("Content-Type"), "%d bytes", len(body))
			require.Equal(t, sha256.Sum256([]byte(body)), sha256.Sum256([]byte(got.text)))
		}
	}
	got := a.call(http.MethodGet, "/api/storage-locations/"+someID+"/files/download?path=folder", "")
	require.Equal(t, http.StatusUnprocessableEntity, got.status)
	require.Equal(t, "STORAGE_FOLDER_DOWNLOAD_NOT_SUPPORTED", got.code(t))
}

func TestAFileThatBreaksOffBreaksTheConnection(t *testing.T) {
	a := start(t)
	a.files.body = strings.Repeat("x", 1<<20)
	for _, err := range []error{
		errs.New(errs.Unavailable, errs.CodeStorageUnavailable, "the storage is away"), io.ErrUnexpectedEOF,
		fmt.Errorf("the connection was reset: %w", io.EOF), errors.New("anything"),
	} {
		a.files.err = err
		resp, err := a.client.Do(a.request("operator", http.MethodGet, "/api/storage-locations/"+someID+"/files/download?path=x", ""))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.Error(t, err, "it looks whole")
		require.NoError(t, resp.Body.Close())

		stream, err := pb.NewStorageLocationServiceClient(a.conn).DownloadStorageFile(as(t.Context(), "operator"), &pb.DownloadStorageFileRequest{Id: someID, Path: "x"})
		require.NoError(t, err)
		for err == nil {
			_, err = stream.Recv()
		}
		require.NotEqual(t, io.EOF, err)
	}
}

func TestImportsHaveTheShapeOfTheContract(t *testing.T) {
	a := start(t)
	path := "/api/storage-locations/" + someID + "/import"
	nobody := `"created_at":null,"size_bytes":"0","stored_bytes":"0","encrypted":false`
	require.JSONEq(t, `{"imported":1,"left_out":2,"backups":[
		{"path":"shop/2026-11-24_030000_1a2b3c4d","execution_id":"`+unknownID+`","datasource_id":null,"datasource_name":"shop","database":"",`+nobody+`,
			"imported":false,"error":"its datasource is not there","error_code":"NOT_FOUND"},
		{"path":"x","execution_id":null,"datasource_id":null,"datasource_name":"","database":"",`+nobody+`,
			"imported":false,"error":"it is not whole","error_code":"ARTIFACT_CORRUPT"},
		{"path":"shop/2026-11-24_030000_1a2b3c4d","execution_id":"`+unknownID+`","datasource_id":"`+unknownID+`","datasource_name":"shop","database":"",`+nobody+`,
			"imported":true,"error":null,"error_code":null}]}`,
		a.call(http.MethodPost, path, `{}`).text)
	require.Equal(t, []string{"datasource_id"}, a.call(http.MethodPost, path, `{"datasource_id":"shop"}`).fields(t))
	require.Equal(t, "NOT_FOUND", a.call(http.MethodPost, "/api/storage-locations/"+unknownID+"/import", `{}`).code(t))
}
