package server

import (
	"context"
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
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, cert: &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	der := a.sign(a.cert)
	var err error
	a.cert, err = x509.ParseCertificate(der.Certificate[0])
	require.NoError(t, err)
	return a
}

// sign makes a key and its certificate; the first one is the authority's own.
func (a *authority) sign(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	if a.key == nil {
		a.key = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client issues a certificate of a client; options make it unfit.
func (a *authority) client(name string, options ...func(*x509.Certificate)) []tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(2 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, option := range options {
		option(template)
	}
	return []tls.Certificate{a.sign(template)}
}

// file writes the authority's certificate and returns where.
func (a *authority) file() string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), "authority.pem")
	require.NoError(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}), 0o600))
	return path
}

// guarded is a server that asks clients for certificates.
type guarded struct {
	*api

	roots *x509.CertPool
}

func startGuarded(t *testing.T, ca *authority, users bool) guarded {
	t.Helper()
	certFile, keyFile, roots := certificate(t)
	return guarded{roots: roots, api: start(t, func(c *Config) {
		c.CertFile, c.KeyFile, c.ClientCAFile, c.CertificateUsers = certFile, keyFile, ca.file(), users
	})}
}

// rest sends a request with a certificate, or the lack of one.
func (g guarded) rest(shown []tls.Certificate, method, path string, headers ...string) (answer, error) {
	g.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.roots, Certificates: shown, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	r := g.request("", method, path, "", headers...)
	r.URL.Scheme = "https"
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { require.NoError(g.t, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, text: string(text)}, err
}

// whoami asks over gRPC with a certificate.
func (g guarded) whoami(ctx context.Context, shown []tls.Certificate) (string, error) {
	g.t.Helper()
	conn, err := grpc.NewClient(g.conn.Target(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: g.roots, Certificates: shown, MinVersion: tls.VersionTLS12})))
	require.NoError(g.t, err)
	defer func() { require.NoError(g.t, conn.Close()) }()
	me, err := pb.NewAuthServiceClient(conn).GetMe(ctx, &pb.GetMeRequest{})
	return me.GetUser().GetUsername(), err
}

func TestOnlyClientsOfTheAuthorityConnect(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	g := startGuarded(t, ca, false)
	for name, shown := range map[string][]tls.Certificate{
		"no certificate":           nil,
		"one of another authority": other.client("admin"),
		"one that is over":         ca.client("admin", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }),
		"one for servers":          ca.client("admin", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"one of its own":           {{Certificate: [][]byte{other.cert.Raw}, PrivateKey: other.key}},
	} {
		_, err := g.rest(shown, http.MethodGet, "/health")
		require.Error(t, err, name)
		_, err = g.whoami(as(t.Context(), "admin"), shown)
		require.Equal(t, codes.Unavailable, status.Code(err), "%s: %v", name, err)
	}
	require.NotContains(t, g.log.String(), `path=/health`, "none of them has got as far as a request")

	shown := ca.client("operator")
	got, err := g.rest(shown, http.MethodGet, "/api/auth/me", "Authorization", "Bearer viewer")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, got.status, got.text)
	name, err := g.whoami(as(t.Context(), "viewer"), shown)
	require.NoError(t, err)
	require.Equal(t, "viewer", name)

	got, err = g.rest(shown, http.MethodGet, "/api/auth/me")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, got.status, "a certificate is nobody here")
	_, err = g.whoami(t.Context(), shown)
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}

func TestTheMetricsAskForACertificateToo(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile, roots := certificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	run, err := NewMetrics(Config{HTTPListener: listener, CertFile: certFile, KeyFile: keyFile, ClientCAFile: ca.file(), Metrics: content("text/plain", []byte("up 1"))})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	ask := func(shown []tls.Certificate) (int, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: shown, MinVersion: tls.VersionTLS12}}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+listener.Addr().String()+"/metrics", nil)
		require.NoError(t, err)
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	_, err = ask(nil)
	require.Error(t, err)
	_, err = ask(newAuthority(t).client("prometheus"))
	require.Error(t, err)
	status, err := ask(ca.client("prometheus"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	stop()
	require.NoError(t, <-ended)
}

func TestACertificateCanBeAUser(t *testing.T) {
	ca := newAuthority(t)
	g := startGuarded(t, ca, true)
	operator := ca.client("operator")
	me := func(headers ...string) string {
		got, err := g.rest(operator, http.MethodGet, "/api/auth/me", headers...)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, got.status, got.text)
		return got.text
	}
	require.Contains(t, me(), `"operator"`)
	require.Contains(t, me("X-Dataguardian-Certificate", "admin"), `"operator"`, "only the server says whose certificate it is")
	require.Contains(t, me("Grpc-Metadata-X-Dataguardian-Certificate", "admin"), `"operator"`)
	require.Contains(t, me("Authorization", "Bearer viewer"), `"viewer"`, "a token goes before")
	name, err := g.whoami(t.Context(), operator)
	require.NoError(t, err)
	require.Equal(t, "operator", name)
	name, err = g.whoami(as(t.Context(), "viewer"), operator)
	require.NoError(t, err)
	require.Equal(t, "viewer", name)

	nobody := ca.client("eve")
	got, err := g.rest(nobody, http.MethodGet, "/api/auth/me")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, got.status)
	_, err = g.whoami(t.Context(), nobody)
	require.Equal(t, codes.Unauthenticated, status.Code(err))

	got, err = g.rest(ca.client("admin"), http.MethodDelete, "/api/datasources/"+someID, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, got.status, "browsers show certificates for every page")
	require.Contains(t, got.text, "another site")
	got, err = g.rest(ca.client("admin"), http.MethodDelete, "/api/datasources/"+someID)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, got.status, got.text)
	last := g.trail.all()[len(g.trail.all())-1]
	require.Equal(t, "admin", last.Actor)
}
