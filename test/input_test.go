package test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

func databasesThatCannotBeBackedUp(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	with := func(key string, value any) config {
		c := source.Config()
		c[key] = value
		return c
	}
	for name, c := range map[string]struct {
		connection config
		code       string
		says       string
	}{
		"a host nobody knows":    {with("host", "no-such-host.invalid"), "DATASOURCE_UNREACHABLE", "no-such-host.invalid"},
		"a port nobody is on":    {with("port", testkit.FreePort(t)), "DATASOURCE_UNREACHABLE", "127.0.0.1"},
		"a wrong password":       {with("password", "wrong-"+s.Plane.Secret), "DATASOURCE_AUTH_FAILED", source.User},
		"a user nobody knows":    {with("username", "nobody"), "DATASOURCE_AUTH_FAILED", "nobody"},
		"a database not there":   {with("database", "nowhere"), "DATABASE_NOT_FOUND", "nowhere"},
		"a TLS server that isnt": {with("ssl_mode", "require"), "DATASOURCE_UNREACHABLE", "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			id := s.AddDatasource(t, c.connection)
			tested := s.Post(t, "/api/datasources/"+id+"/test", nil, http.StatusOK)
			require.Equal(t, "error", tested.Text("status"))
			require.Equal(t, c.code, tested.Text("error_code"))
			require.Contains(t, tested.Text("error"), c.says)

			storageDir := s.StorageDir(t)
			e := s.Fails(t, s.AddJob(t, id, s.AddStorage(t, storageDir)), c.code)
			require.Contains(t, e.Text("error_message"), c.says)
			require.True(t, e.Null("size_bytes"))
			require.Empty(t, e.List("chunks"))
			requireNoFiles(t, storageDir)
		})
	}
}

func storagesThatCannotBeUsed(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	datasource := s.AddDatasource(t, source.Config())
	file := filepath.Join(s.Dir, "a file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	readOnly := filepath.Join(s.Dir, "read-only")
	harness.ReadOnlyDisk(t, readOnly)
	for name, path := range map[string]string{
		"a file":                      file,
		"below a file":                file + "/backups",
		"without its parent":          filepath.Join(s.Dir, "absent", "backups"),
		"the kernel's, for nobody":    "/proc/backups",
		"on a disk that is read-only": readOnly,
	} {
		t.Run(name, func(t *testing.T) {
			tested := s.Post(t, "/api/storage-locations/test", config{"type": "local", "config": config{"path": path}}, http.StatusOK)
			require.Equal(t, "error", tested.Text("status"), "%s", tested)
			require.NotEmpty(t, tested.Text("error"))
			id := s.AddStorage(t, path)
			e := s.Await(t, s.Run(t, s.AddJob(t, datasource, id)))
			require.Equal(t, "failed", e.Text("status"))
			require.Regexp(t, "^(STORAGE_|INVALID_STORAGE_|UPLOAD_)", e.Text("error_code"), e.Text("error_message"))
			require.NotContains(t, e.Text("error_message"), "unexpected error")
		})
	}
}

func jobsThatNameNothing(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	datasource, storage := s.AddDatasource(t, source.Config()), s.AddStorage(t, s.StorageDir(t))
	create := func(changes config) harness.Answer {
		body := config{"name": "never made", "datasource_id": datasource, "storage_location_id": storage, "retention_policy": config{"max_backups": 1}}
		for key, value := range changes {
			body[key] = value
		}
		return s.Do(t, http.MethodPost, "/api/backup-jobs", body)
	}
	requireField(t, create(config{"datasource_id": unknownID}), "datasource_id")
	requireField(t, create(config{"storage_location_id": unknownID}), "storage_location_id")
	requireField(t, create(config{"retention_policy": config{}}), "retention_policy")
	requireField(t, create(config{"schedule_cron": "*/5 * * * * *"}), "schedule_cron")
	requireField(t, create(config{"schedule_timezone": "Mars/Olympus"}), "schedule_timezone")
	s.Do(t, http.MethodPost, "/api/backup-jobs/"+unknownID+"/run", nil).Refused(t, http.StatusNotFound, "NOT_FOUND")
}

func requireField(t *testing.T, a harness.Answer, field string) {
	t.Helper()
	a.Refused(t, http.StatusUnprocessableEntity, "VALIDATION_ERROR")
	j := a.Expect(t, http.StatusUnprocessableEntity)
	require.Equal(t, field, j.Text("details.fields.0.field"), a.Text)
	require.NotEmpty(t, j.Text("details.fields.0.message"))
}

func whatIsInUseStays(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	datasource, storage := s.AddDatasource(t, source.Config()), s.AddStorage(t, s.StorageDir(t))
	jobs := []string{s.AddJob(t, datasource, storage), s.AddJob(t, datasource, storage)}
	for _, path := range []string{"/api/datasources/" + datasource, "/api/storage-locations/" + storage} {
		a := s.Do(t, http.MethodDelete, path, nil)
		a.Refused(t, http.StatusConflict, "RESOURCE_IN_USE")
		require.EqualValues(t, 2, a.Expect(t, http.StatusConflict).Int("details.jobs"), a.Text)
	}
	e := s.Backup(t, jobs[0])
	for _, job := range jobs {
		require.Equal(t, http.StatusNoContent, s.Do(t, http.MethodDelete, "/api/backup-jobs/"+job, nil).Status)
	}
	a := s.Do(t, http.MethodDelete, "/api/storage-locations/"+storage, nil)
	a.Refused(t, http.StatusConflict, "RESOURCE_IN_USE")
	require.EqualValues(t, 1, a.Expect(t, http.StatusConflict).Int("details.backups"), a.Text)
	require.Equal(t, http.StatusNoContent, s.Do(t, http.MethodDelete, "/api/executions/"+e.Text("id")+"?force=true", nil).Status)
	for _, path := range []string{"/api/storage-locations/" + storage, "/api/datasources/" + datasource} {
		require.Equal(t, http.StatusNoContent, s.Do(t, http.MethodDelete, path, nil).Status)
		s.Do(t, http.MethodGet, path, nil).Refused(t, http.StatusNotFound, "NOT_FOUND")
	}
}

func badInputIsRefused(t *testing.T, s *harness.Server) {
	for name, c := range map[string]struct {
		method, path string
		body         any
		status       int
		code         string
	}{
		"malformed JSON":   {http.MethodPost, "/api/datasources", `{"name":`, 400, "INVALID_ARGUMENT"},
		"an unknown field": {http.MethodPost, "/api/datasources", `{"colour":"x"}`, 400, "INVALID_ARGUMENT"},
		"a bad id":         {http.MethodGet, "/api/backup-jobs/42", nil, 400, "INVALID_ARGUMENT"},
		"limit 0":          {http.MethodGet, "/api/executions?limit=0", nil, 422, "VALIDATION_ERROR"},
		"limit 101":        {http.MethodGet, "/api/datasources?limit=101", nil, 422, "VALIDATION_ERROR"},
		"2 MiB":            {http.MethodPost, "/api/datasources", `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "PAYLOAD_TOO_LARGE"},
		"an absent path":   {http.MethodGet, "/api/nothing", nil, 404, "NOT_FOUND"},
		"a wrong method":   {http.MethodPatch, "/api/datasources", nil, 405, "METHOD_NOT_ALLOWED"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Do(t, c.method, c.path, c.body).Refused(t, c.status, c.code)
		})
	}
	t.Run("every bad field is in one answer", func(t *testing.T) {
		a := s.Do(t, http.MethodPost, "/api/datasources", config{"name": "x", "type": "postgres", "connection_config": config{"host": "a dbname=b", "port": 70000, "colour": 1}})
		a.Refused(t, http.StatusUnprocessableEntity, "INVALID_CONNECTION_CONFIG")
		var fields []string
		for _, f := range a.Expect(t, http.StatusUnprocessableEntity).List("details.fields") {
			fields = append(fields, f.Text("field"))
		}
		require.ElementsMatch(t, []string{"connection_config.host", "connection_config.port", "connection_config.database",
			"connection_config.username", "connection_config.password", "connection_config.colour"}, fields)
	})
	t.Run("gRPC names the same code", func(t *testing.T) {
		_, err := pb.NewExecutionServiceClient(s.Conn).ListExecutions(s.Authorized(t.Context()), &pb.ListExecutionsRequest{Limit: proto.Int32(0)})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.Equal(t, "VALIDATION_ERROR", reason(err))
	})
}

// reason returns the code that an error of gRPC carries.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func namesAreLiteral(t *testing.T, s *harness.Server) {
	for what, name := range map[string]string{
		"an option":             "--file=/tmp/pwned",
		"a short option":        "-d",
		"a connection string":   "host=elsewhere dbname=other",
		"a URL":                 "postgres://elsewhere/other",
		"quotes":                `it's "quoted"`,
		"spaces":                " both ends ",
		"a line break":          "two\nlines",
		"the parent directory":  "..",
		"a path":                "../../etc/passwd",
		"a shell's delight":     "$(touch /tmp/pwned);`id`|&",
		"letters from far away": "数据库 ☃",
		"percent signs":         "100%s%n",
		"a backslash":           `back\slash`,
	} {
		t.Run(what, func(t *testing.T) {
			source := s.Plane.NewSourceNamed(t, name)
			job, storageDir := s.NewJob(t, source)
			e := s.Backup(t, job)
			require.Equal(t, name, s.Get(t, "/api/datasources/"+e.Text("datasource_id")).Text("connection_config.database"))
			dir := filepath.Join(storageDir, e.Text("backup_path"))
			require.True(t, strings.HasPrefix(dir, storageDir+"/"), "%q leaves the storage", dir)
			require.Equal(t, 2, strings.Count(strings.TrimPrefix(dir, storageDir), "/"), "the name is one folder: %q", dir)
			require.FileExists(t, filepath.Join(dir, "manifest.json"))
		})
	}
	require.NoFileExists(t, "/tmp/pwned")
	for what, name := range map[string]string{"a zero byte": "a\x00b", "nothing": "", "too much": strings.Repeat("x", 64)} {
		t.Run(what, func(t *testing.T) {
			s.Do(t, http.MethodPost, "/api/datasources", config{"name": "never made", "type": "postgres", "connection_config": config{
				"host": "127.0.0.1", "database": name, "username": "u", "password": "p"}}).Refused(t, http.StatusUnprocessableEntity, "INVALID_CONNECTION_CONFIG")
		})
	}
}

func pathsAreLiteral(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	datasource := s.AddDatasource(t, source.Config())
	for what, name := range map[string]string{
		"quotes":         `it's "quoted"`,
		"spaces":         " both ends ",
		"a leading dash": "-rf",
		"shell":          "$(id);`id`",
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(s.Dir, name)
			e := s.Backup(t, s.AddJob(t, datasource, s.AddStorage(t, dir)))
			require.FileExists(t, filepath.Join(dir, e.Text("backup_path"), "manifest.json"))
		})
	}
	for what, path := range map[string]string{
		"a way up":      s.Dir + "/../elsewhere",
		"relative":      "backups",
		"empty":         "",
		"a line break":  s.Dir + "/two\nlines",
		"a zero byte":   s.Dir + "/zero\x00byte",
		"the root":      "/",
		"a way up only": "/..",
	} {
		t.Run(what, func(t *testing.T) {
			s.Do(t, http.MethodPost, "/api/storage-locations", config{"name": "never made", "type": "local", "config": config{"path": path}}).
				Refused(t, http.StatusUnprocessableEntity, "INVALID_STORAGE_CONFIG")
		})
	}
}

// Every RPC of the descriptors, on both listeners.
func nobodyComesInWithoutACredential(t *testing.T, s *harness.Server) {
	checked := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("dataguardian.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				if proto.GetExtension(m.Options(), pb.E_Access) != pb.Access_anyone {
					requireLocked(t, s, m)
					checked++
				}
			}
		}
		return true
	})
	require.Greater(t, checked, 45)
	require.Equal(t, http.StatusOK, s.As(t, "", http.MethodGet, "/health", nil).Status)
	require.Equal(t, http.StatusOK, s.As(t, "", http.MethodGet, "/api/auth/status", nil).Status)
	require.Equal(t, http.StatusOK, s.As(t, "", http.MethodGet, "/metrics", nil).Status)
	require.Equal(t, http.StatusOK, s.As(t, "", http.MethodGet, "/api/openapi.json", nil).Status)
}

func requireLocked(t *testing.T, s *harness.Server, m protoreflect.MethodDescriptor) {
	t.Helper()
	err := call(t.Context(), s.Conn, m)
	require.Equal(t, codes.Unauthenticated, status.Code(err), "%s: %v", m.FullName(), err)
	require.Equal(t, "UNAUTHORIZED", reason(err))
	rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	require.True(t, ok)
	for verb, path := range map[string]string{http.MethodGet: rule.GetGet(), http.MethodPost: rule.GetPost(), http.MethodPut: rule.GetPut(), http.MethodDelete: rule.GetDelete()} {
		if path == "" {
			continue
		}
		for _, name := range []string{"id", "execution_id", "datasource_id"} {
			path = strings.ReplaceAll(path, "{"+name+"}", unknownID)
		}
		for _, token := range []string{"", "dgt_wrong"} {
			s.As(t, token, verb, path, nil).Refused(t, http.StatusUnauthorized, "UNAUTHORIZED")
		}
	}
}

// call calls any RPC with an empty request.
func call(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor) error {
	name := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingServer() {
		return conn.Invoke(ctx, name, in, out)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, name)
	if err == nil {
		err = errors.Join(stream.SendMsg(in), stream.CloseSend())
	}
	if err == nil {
		err = stream.RecvMsg(out)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
