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
	"google.golang.org/grpc/credentials"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func TestBothListenersSpeakTLSWhenACertificateIsGiven(t *testing.T) {
	certFile, keyFile, roots := certificate(t)
	a := start(t, func(c *Config) { c.CertFile, c.KeyFile = certFile, keyFile })
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https"+a.url[len("http"):]+"/api/auth/me", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer viewer")
	resp, err := (&http.Client{Transport: transport}).Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, 2, resp.ProtoMajor)

	conn, err := grpc.NewClient(a.conn.Target(), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "")))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	me, err := pb.NewAuthServiceClient(conn).GetMe(as(t.Context(), "operator"), &pb.GetMeRequest{})
	require.NoError(t, err)
	require.Equal(t, "operator", me.GetUser().GetUsername())

	login, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https"+a.url[len("http"):]+"/api/auth/login", strings.NewReader(goodLogin))
	require.NoError(t, err)
	login.Header.Set("Content-Type", "application/json")
	resp, err = (&http.Client{Transport: transport}).Do(login)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "dg_session=admin; Path=/; HttpOnly; Secure; SameSite=Strict", resp.Header.Get("Set-Cookie"))

	plain, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/health", nil)
	require.NoError(t, err)
	refused, err := a.client.Do(plain)
	require.NoError(t, err)
	require.NoError(t, refused.Body.Close())
	require.Equal(t, http.StatusBadRequest, refused.StatusCode)
}

func certificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	roots = x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(certPEM))
	return certFile, keyFile, roots
}

func TestAUsedPortOrABadCertificateIsAnErrorOfNewAndLeavesNothingOpen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	_, err = New(Config{HTTPAddr: taken.Addr().String(), GRPCAddr: "127.0.0.1:0"})
	require.ErrorContains(t, err, taken.Addr().String())
	_, err = New(Config{HTTPAddr: "127.0.0.1:0", GRPCAddr: taken.Addr().String()})
	require.ErrorContains(t, err, taken.Addr().String())
	_, err = New(Config{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", CertFile: "/nowhere/cert.pem", KeyFile: "/nowhere/key.pem"})
	require.ErrorContains(t, err, "/nowhere/cert.pem")
	_, err = New(Config{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", OpenAPI: []byte("{")})
	require.ErrorContains(t, err, "OpenAPI")
}

func TestAServerThatIsNotRunCanBeClosed(t *testing.T) {
	s, err := New(Config{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	require.NoError(t, err)
	web, native := s.Addrs()
	s.Close()
	s.Close()
	for _, addr := range []net.Addr{web, native} {
		again, err := net.Listen("tcp", addr.String())
		require.NoError(t, err, "the port is free again")
		require.NoError(t, again.Close())
	}
}

func TestRunEndsWhenAListenerFails(t *testing.T) {
	s, err := New(Config{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	require.NoError(t, err)
	require.NoError(t, s.grpcListener.Close())
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	require.ErrorContains(t, s.Run(ctx), "ended by itself")
	require.NoError(t, ctx.Err())
}
