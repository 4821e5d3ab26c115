package test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

// owned is what belongs to one datasource.
type owned struct{ datasource, job, execution, notification string }

func newOwned(t *testing.T, s *harness.Server, tag string) owned {
	t.Helper()
	source := s.Plane.NewSource(t, 10)
	o := owned{datasource: s.Post(t, "/api/datasources", config{"name": "tagged " + tag, "type": "postgres", "tags": []string{tag}, "connection_config": source.Config()}, http.StatusCreated).Text("id")}
	o.job = s.AddJob(t, o.datasource, s.AddStorage(t, s.StorageDir(t)))
	o.execution = s.Backup(t, o.job).Text("id")
	for _, n := range s.Get(t, "/api/notifications?type=backup_success&limit=100").List("data") {
		if n.Text("entity_id") == o.job {
			o.notification = n.Text("id")
		}
	}
	require.NotEmpty(t, o.notification)
	return o
}

// fill sets every id that a request can name to what belongs to o.
func (o owned) fill(in *dynamicpb.Message, reach pb.Reach_Kind) {
	ids := map[protoreflect.Name]string{"datasource_id": o.datasource, "target_datasource_id": o.datasource, "job_id": o.job, "execution_id": o.execution}
	ids["id"] = map[pb.Reach_Kind]string{
		pb.Reach_by_datasource: o.datasource, pb.Reach_by_job: o.job, pb.Reach_by_execution: o.execution, pb.Reach_by_notification: o.notification,
		pb.Reach_filtered: o.execution, // what is read by its id
	}[reach]
	fields := in.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if id, ok := ids[f.Name()]; ok && f.Kind() == protoreflect.StringKind && !f.IsList() {
			in.Set(f, protoreflect.ValueOfString(id))
		}
		if f.Name() == "sql" {
			in.Set(f, protoreflect.ValueOfString("SELECT 1"))
		}
	}
}

// accessIsBounded goes the whole way of a new control plane: the first user, a token
// with a scope, what that may reach by any RPC, and what is written down of it.
func accessIsBounded(t *testing.T, s *harness.Server) {
	const password = "correct horse battery"
	made := s.As(t, "", http.MethodPost, "/api/auth/setup", config{"username": "first", "password": password})
	require.Equal(t, "admin", made.Expect(t, http.StatusOK).Text("user.role"))
	s.As(t, "", http.MethodPost, "/api/auth/setup", config{"username": "second", "password": password}).Refused(t, http.StatusConflict, "SETUP_ALREADY_DONE")
	s.As(t, "", http.MethodPost, "/api/auth/login", config{"username": "first", "password": "wrong"}).Refused(t, http.StatusUnauthorized, "UNAUTHORIZED")
	mine, theirs := newOwned(t, s, "mine"), newOwned(t, s, "theirs")
	session := cookieNamed(s.As(t, "", http.MethodPost, "/api/auth/login", config{"username": "FIRST", "password": password}), "dg_session").Value
	require.Equal(t, "first", s.As(t, session, http.MethodGet, "/api/auth/me", nil).Expect(t, http.StatusOK).Text("user.username"))
	scoped := s.As(t, session, http.MethodPost, "/api/auth/tokens", config{"name": "bounded-to-mine", "role": "operator", "scope": []string{"mine"}}).Expect(t, http.StatusCreated).Text("token")

	checked, found := map[pb.Reach_Kind]int{}, false
	for _, m := range operatorsRPCs(t) {
		reach, _ := proto.GetExtension(m.Options(), pb.E_Reach).(pb.Reach_Kind)
		checked[reach]++
		in := dynamicpb.NewMessage(m.Input())
		theirs.fill(in, reach)
		answer, err := ask(t, s.Conn, scoped, m, in)
		all, _ := ask(t, s.Conn, scoped, m, dynamicpb.NewMessage(m.Input())) // by no id, where that is accepted
		switch reach {
		case pb.Reach_by_datasource, pb.Reach_by_job, pb.Reach_by_execution, pb.Reach_by_notification:
			require.Equal(t, codes.NotFound, status.Code(err), "%s: %v", m.FullName(), err)
		case pb.Reach_whole:
			require.Equal(t, codes.PermissionDenied, status.Code(err), "%s: %v", m.FullName(), err)
		case pb.Reach_shared, pb.Reach_filtered:
			// Answered; what must not be in it is looked for below.
			if m.Input().Fields().ByName("id") != nil && reach == pb.Reach_filtered {
				require.Equal(t, codes.NotFound, status.Code(err), "%s: %v", m.FullName(), err)
			}
		case pb.Reach_reach_unspecified:
			t.Errorf("%s declares no reach", m.FullName())
		}
		for _, id := range []string{theirs.datasource, theirs.job, theirs.execution, theirs.notification, "tagged theirs"} {
			require.NotContains(t, answer, id, m.FullName())
			require.NotContains(t, all, id, m.FullName())
		}
		found = found || strings.Contains(all, "tagged mine")
	}
	for _, reach := range []pb.Reach_Kind{pb.Reach_by_datasource, pb.Reach_by_job, pb.Reach_by_execution, pb.Reach_by_notification, pb.Reach_whole, pb.Reach_filtered} {
		require.NotZero(t, checked[reach], reach)
	}
	require.True(t, found, "what is in the scope is listed")
	restore := func(source, target string) harness.Answer {
		return s.As(t, scoped, http.MethodPost, "/api/backups/"+source+"/restore", config{"target_datasource_id": target, "verification_mode": true})
	}
	restore(mine.execution, theirs.datasource).Refused(t, http.StatusNotFound, "NOT_FOUND")
	restore(theirs.execution, mine.datasource).Refused(t, http.StatusNotFound, "NOT_FOUND")
	s.As(t, scoped, http.MethodPost, "/api/backups/"+mine.execution+"/restore", config{"target_database": "postgres"}).Refused(t, http.StatusForbidden, "FORBIDDEN")
	require.Equal(t, http.StatusOK, s.As(t, scoped, http.MethodGet, "/api/executions/"+mine.execution, nil).Status)
	s.As(t, scoped, http.MethodDelete, "/api/datasources/"+mine.datasource, nil).Refused(t, http.StatusForbidden, "FORBIDDEN")

	harness.Eventually(t, func() bool {
		found := map[string]bool{}
		for _, actor := range []string{"first", "bounded-to-mine"} {
			for _, e := range s.Get(t, "/api/audit-logs?limit=100&actor="+actor).List("data") {
				require.Equal(t, "127.0.0.1", e.Text("address"))
				found[strings.Join([]string{actor, e.Text("action"), e.Text("outcome")}, " ")] = true
			}
		}
		for _, entry := range []string{
			"first user.setup ok", "first session.login UNAUTHORIZED", "first session.login ok", "first token.create ok",
			"bounded-to-mine backup.restore NOT_FOUND", "bounded-to-mine datasource.delete FORBIDDEN",
		} {
			if !found[entry] {
				return false
			}
		}
		return true
	}, "the audit log tells it all")
}

// operatorsRPCs are those that need a role that an operator has, from the descriptors,
// but streams that do not end by themselves, see streamsAreBoundedByScope.
func operatorsRPCs(t *testing.T) (all []protoreflect.MethodDescriptor) {
	t.Helper()
	for _, m := range rpcs(t) {
		role, _ := proto.GetExtension(m.Options(), pb.E_Access).(pb.Access_Role)
		reach, _ := proto.GetExtension(m.Options(), pb.E_Reach).(pb.Reach_Kind)
		endless := m.IsStreamingServer() && reach == pb.Reach_filtered
		if (role == pb.Access_viewer || role == pb.Access_operator) && !endless {
			all = append(all, m)
		}
	}
	require.Greater(t, len(all), 30)
	return all
}

// rpcs are all of the descriptors.
func rpcs(t *testing.T) (all []protoreflect.MethodDescriptor) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFilesByPackage("dataguardian.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				all = append(all, f.Services().Get(i).Methods().Get(j))
			}
		}
		return true
	})
	return all
}

// ask calls any RPC and returns its first answer.
func ask(t *testing.T, conn *grpc.ClientConn, token string, m protoreflect.MethodDescriptor, in *dynamicpb.Message) (string, error) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	name := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, name)
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(in))
	require.NoError(t, stream.CloseSend())
	out := dynamicpb.NewMessage(m.Output())
	err = stream.RecvMsg(out)
	return out.String(), err
}

func streamsEndWithTheirCredential(t *testing.T, s *harness.Server) {
	made := s.Post(t, "/api/auth/tokens", config{"name": "brief", "role": "viewer"}, http.StatusCreated)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+made.Text("token"))
	native, err := pb.NewNotificationServiceClient(s.Conn).WatchNotifications(ctx, &pb.WatchNotificationsRequest{})
	require.NoError(t, err)
	_, err = native.Header()
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTP+"/api/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+made.Text("token"))
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)

	require.Equal(t, http.StatusNoContent, s.Do(t, http.MethodDelete, "/api/auth/tokens/"+made.Text("id"), nil).Status)
	for err == nil {
		_, err = native.Recv()
	}
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	last := ""
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		last = lines.Text()
	}
	require.Contains(t, last, "UNAUTHORIZED", "the stream says why it ends")
}

// secretsDoNotTravel changes where something leads without saying its secret again.
func secretsDoNotTravel(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	datasource := s.AddDatasource(t, source.Config())
	bucket := config{"endpoint": "http://127.0.0.1:1", "bucket": "b", "region": "r", "access_key_id": "k", "secret_access_key": s.Plane.Secret}
	storage := s.Post(t, "/api/storage-locations", config{"name": "far away", "type": "s3", "config": bucket}, http.StatusCreated).Text("id")
	channel := s.Post(t, "/api/notification-channels", config{"name": "hook", "type": "webhook", "config": config{"url": "http://127.0.0.1:1/x", "secret": s.Plane.Secret}}, http.StatusCreated).Text("id")
	for path, change := range map[string]config{
		"/api/datasources/" + datasource:        {"connection_config": config{"host": "192.0.2.1"}},
		"/api/storage-locations/" + storage:     {"config": config{"endpoint": "http://127.0.0.2:1"}},
		"/api/notification-channels/" + channel: {"config": config{"url": "http://127.0.0.2:1/x"}},
	} {
		got := s.Do(t, http.MethodPut, path, change)
		require.Equal(t, http.StatusUnprocessableEntity, got.Status, "%s: %s", path, got.Text)
		for _, role := range []string{"viewer", "operator", "admin"} {
			token := s.Post(t, "/api/auth/tokens", config{"name": role + " of " + path, "role": role}, http.StatusCreated).Text("token")
			shown := s.As(t, token, http.MethodGet, path, nil)
			require.Equal(t, http.StatusOK, shown.Status, shown.Text)
			require.Contains(t, shown.Text, `"set":true`, "that there is a secret is all that is told")
		}
	}
}

// metadataAddressesAreNotReached tries every place where somebody names an address.
func metadataAddressesAreNotReached(t *testing.T, s *harness.Server) {
	for _, host := range []string{"169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "[64:ff9b::a9fe:a9fe]", "100.100.100.200", "0.0.0.0", "2852039166", "0xa9fea9fe"} {
		bucket := config{"endpoint": "http://" + host + ":80", "bucket": "b", "region": "r", "access_key_id": "k", "secret_access_key": "s", "force_path_style": true}
		got := s.Do(t, http.MethodPost, "/api/storage-locations/test", config{"type": "s3", "config": bucket})
		refused := got.Status == http.StatusUnprocessableEntity
		require.True(t, refused || got.Expect(t, http.StatusOK).Text("status") == "error", "%s: %s", host, got.Text)
		if got.Status == http.StatusOK && net.ParseIP(host) != nil { // the others may not get as far as a connection
			require.Contains(t, got.Text, "not allowed", host)
		}
		hook := s.Do(t, http.MethodPost, "/api/notification-channels", config{"name": "hook " + host, "type": "webhook", "config": config{"url": "http://" + host + "/"}})
		if hook.Status == http.StatusCreated {
			hook = s.Do(t, http.MethodPost, "/api/notification-channels/"+hook.Expect(t, http.StatusCreated).Text("id")+"/test", nil)
			require.Equal(t, "error", hook.Expect(t, http.StatusOK).Text("status"), "%s: %s", host, hook.Text)
			continue
		}
		require.Equal(t, http.StatusUnprocessableEntity, hook.Status, "%s: %s", host, hook.Text)
	}
}

// theKeyIsRotatedMeanwhile changes the key while a dump runs whose password it seals.
func theKeyIsRotatedMeanwhile(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	release := source.Lock(t)
	running := s.Run(t, job)
	source.AwaitDump(t)
	before := keyFile(t, s)
	r := s.CLI(t, "key", "rotate")
	require.Zero(t, r.Code, r.Stderr)
	require.NotEqual(t, before, keyFile(t, s))
	release()
	require.Equal(t, "completed", s.Await(t, running).Text("status"))
	s.Backup(t, job)
	dropped := s.CLI(t, "key", "rotate", "--drop-old")
	require.Zero(t, dropped.Code, dropped.Stderr)
	s.Backup(t, job)
}

func keyFile(t *testing.T, s *harness.Server) string {
	t.Helper()
	raw, err := os.ReadFile(s.Plane.KeyFile)
	require.NoError(t, err)
	return string(raw)
}

// clientsShowCertificates runs one more API beside the other, which asks for them on
// REST, gRPC and its metrics.
func clientsShowCertificates(t *testing.T, s *harness.Server) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	ca.issue("server", x509.ExtKeyUsageServerAuth)
	client := ca.issue("client", x509.ExtKeyUsageClientAuth)
	stranger := newAuthority(t, dir, "other").issue("stranger", x509.ExtKeyUsageClientAuth)
	file := func(name string) string { return filepath.Join(dir, name+".pem") }
	metrics := net.JoinHostPort("127.0.0.1", itoa(testkit.FreePort(t)))
	guarded := s.Plane.ServeTLS(t, "guarded", "--tls-cert", file("server"), "--tls-key", file("server-key"), "--tls-client-ca", file("ca"), "--metrics-addr", metrics)

	anyone := []string{"overview", "--tls-ca", file("ca")}
	shown := func(name string) []string {
		return []string{"overview", "--tls-ca", file("ca"), "--tls-client-cert", file(name), "--tls-client-key", file(name + "-key")}
	}
	require.Zero(t, guarded.CLI(t, shown("client")...).Code)
	for name, args := range map[string][]string{"no certificate": anyone, "a stranger's": shown("stranger"), "a key of another": {"overview", "--tls-ca", file("ca"), "--tls-client-cert", file("client"), "--tls-client-key", file("stranger-key")}} {
		r := guarded.CLI(t, args...)
		require.NotZero(t, r.Code, "%s: %s", name, r.Stdout)
	}
	get := func(url string, certificates ...tls.Certificate) (int, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool, Certificates: certificates, MinVersion: tls.VersionTLS12}}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, resp.Body.Close()
	}
	for _, url := range []string{"https://" + guarded.HTTP + "/health", "https://" + metrics + "/metrics"} {
		for _, certificates := range [][]tls.Certificate{nil, {stranger}} {
			_, err := get(url, certificates...)
			require.Error(t, err, url)
		}
		code, err := get(url, client)
		require.NoError(t, err, url)
		require.Equal(t, http.StatusOK, code, url)
	}
}

// authority issues certificates into files of a directory.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir, pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(a.write(name, a.cert, a.key))
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	return a
}

// issue writes NAME.pem and NAME-key.pem.
func (a *authority) issue(name string, usage x509.ExtKeyUsage) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der := a.write(name, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) write(name string, template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	for file, block := range map[string]pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: raw}} {
		require.NoError(a.t, os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(&block), 0o600))
	}
	return der
}
