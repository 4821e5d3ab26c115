package enginetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// TLSFiles is a server's certificate for 127.0.0.1, and who signed it.
type TLSFiles struct {
	CA   string // PEM
	Cert string // path
	Key  string // path
}

// NewTLSFiles makes a certificate that the named account may use.
func NewTLSFiles(t testing.TB, account string) TLSFiles {
	t.Helper()
	dir := testkit.Dir(t)
	caKey, ca := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, nil, nil)
	key, cert := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"127.0.0.1"}, // where libpq looked for addresses before version 15
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	f := TLSFiles{CA: pemText("CERTIFICATE", ca.Raw), Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}
	require.NoError(t, os.WriteFile(f.Cert, []byte(pemText("CERTIFICATE", cert.Raw)), 0o644))
	require.NoError(t, os.WriteFile(f.Key, []byte(pemText("PRIVATE KEY", der)), 0o600))
	if os.Geteuid() == 0 {
		u, err := user.Lookup(account)
		if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
			u, err = user.Lookup("nobody") // as the server does
		}
		require.NoError(t, err)
		uid, err := strconv.Atoi(u.Uid)
		require.NoError(t, err)
		require.NoError(t, os.Chown(f.Key, uid, -1))
	}
	return f
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// sign makes a key and its certificate; without a parent it signs itself.
func sign(t testing.TB, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return key, cert
}

// RunTLS checks the TLS modes against a server that has the files' certificate.
func RunTLS(t *testing.T, s Subject, files TLSFiles) {
	db := s.newDatabase(t, s.Small)
	otherKey, other := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "another authority"}, IsCA: true, BasicConstraintsValid: true}, nil, nil)
	require.NotNil(t, otherKey)
	for name, tc := range map[string]struct {
		mode engine.SSLMode
		root string
		host string
		code errs.Code // empty means that it works
	}{
		"disable":                             {engine.SSLDisable, "", "127.0.0.1", ""},
		"not said":                            {"", "", "127.0.0.1", ""},
		"require":                             {engine.SSLRequire, "", "127.0.0.1", ""},
		"require with a root":                 {engine.SSLRequire, files.CA, "127.0.0.1", ""},
		"require with another root":           {engine.SSLRequire, pemText("CERTIFICATE", other.Raw), "127.0.0.1", errs.CodeDatasourceUnreachable},
		"verify-ca":                           {engine.SSLVerifyCA, files.CA, "127.0.0.1", ""},
		"verify-ca with another root":         {engine.SSLVerifyCA, pemText("CERTIFICATE", other.Raw), "127.0.0.1", errs.CodeDatasourceUnreachable},
		"verify-ca with the system's roots":   {engine.SSLVerifyCA, "", "127.0.0.1", errs.CodeDatasourceUnreachable},
		"verify-full":                         {engine.SSLVerifyFull, files.CA, "127.0.0.1", ""},
		"verify-full with another root":       {engine.SSLVerifyFull, pemText("CERTIFICATE", other.Raw), "127.0.0.1", errs.CodeDatasourceUnreachable},
		"verify-full under another name":      {engine.SSLVerifyFull, files.CA, "localhost", errs.CodeDatasourceUnreachable},
		"verify-full with the system's roots": {engine.SSLVerifyFull, "", "127.0.0.1", errs.CodeDatasourceUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.Server.Conn(db)
			c.SSLMode, c.SSLRootCert, c.Host = tc.mode, tc.root, tc.host
			_, err := s.Engine.Ping(t.Context(), c)
			if tc.code != "" {
				require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
				require.Contains(t, errs.Message(err), "certificate")
				return
			}
			require.NoError(t, err)
			res, dump := s.dump(t, c, engine.DumpOptions{})
			require.Equal(t, map[string]int64{"small": 3}, rows(res, db))
			require.NoError(t, s.Engine.Restore(t.Context(), c, engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}, dump))
		})
	}
}
