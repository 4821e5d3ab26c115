package gcs_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/gcs"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { storagetest.VerifyNoLeaks(m) }

func requireAll(want error) func(*testing.T, string, error) {
	return func(t *testing.T, method string, err error) {
		t.Helper()
		require.ErrorIs(t, err, want, method)
		require.True(t, storage.Permanent(err), method)
	}
}

func TestAMissingBucketIsTold(t *testing.T) {
	server := storagetest.StartGCS(t)
	d := open(t, gcs.Config{Endpoint: server.Endpoint, Bucket: "missing-bucket"})
	storagetest.RequireCalls(t, d, requireAll(storage.ErrNoBucket))
	_, err := storage.Validate(t.Context(), d, storage.ValidateOptions{})
	require.Equal(t, errs.CodeInvalidStorage, errs.CodeOf(err))
}

func TestRefusalsAreTold(t *testing.T) {
	front := storagetest.StartFront(t, "http://127.0.0.1:1")
	d := open(t, gcs.Config{Endpoint: front.Endpoint, Bucket: "b"})
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		front.Answer(status, func(*http.Request) bool { return true })
		storagetest.RequireCalls(t, d, requireAll(storage.ErrPermission))
		_, err := storage.Validate(t.Context(), d, storage.ValidateOptions{})
		require.Equal(t, errs.CodeStorageAuth, errs.CodeOf(err))
	}
	for reason, want := range map[string]error{"rateLimitExceeded": nil, "quotaExceeded": storage.ErrFull} {
		front.Intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprintf(w, `{"error":{"code":403,"message":"no","errors":[{"reason":%q}]}}`, reason)
			return true
		})
		_, err := d.Put(t.Context(), "k", strings.NewReader("x"), storage.PutOptions{Size: 1})
		require.Error(t, err)
		require.NotErrorIs(t, err, storage.ErrPermission)
		require.Equal(t, want != nil, storage.Permanent(err), reason)
		if want != nil {
			require.ErrorIs(t, err, want)
		}
	}
}

// accountKey is the key of a service account whose tokens come from tokenURL.
func accountKey(t *testing.T, tokenURL string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@b.iam.gserviceaccount.com", "private_key_id": "1", "token_uri": tokenURL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	require.NoError(t, err)
	return string(text)
}

func TestAServiceAccountsKeyIsTradedForATokenThatGoesWithEveryRequest(t *testing.T) {
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"access_token":"the-token","token_type":"Bearer","expires_in":3600}`)
	}))
	defer tokens.Close()
	server := storagetest.StartGCS(t)
	front := storagetest.StartFront(t, server.Endpoint)
	front.Answer(http.StatusUnauthorized, func(r *http.Request) bool { return r.Header.Get("Authorization") != "Bearer the-token" })
	c := gcs.Config{Endpoint: front.Endpoint, Bucket: server.NewBucket(t)}
	_, err := storage.Validate(t.Context(), open(t, c), storage.ValidateOptions{})
	require.Equal(t, errs.CodeStorageAuth, errs.CodeOf(err))
	c.CredentialsJSON = accountKey(t, tokens.URL)
	_, err = storage.Validate(t.Context(), open(t, c), storage.ValidateOptions{Large: true})
	require.NoError(t, err)
}

func TestAKeyThatIsRefusedIsTold(t *testing.T) {
	server := storagetest.StartGCS(t)
	for description, want := range map[string]error{
		"Invalid JWT Signature.": storage.ErrPermission,
		"Invalid JWT: Token must be a short-lived token and in a reasonable timeframe. Check your iat and exp values in the JWT claim.": storage.ErrClockSkew,
	} {
		tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, `{"error":"invalid_grant","error_description":%q}`, description)
		}))
		d := open(t, gcs.Config{Endpoint: server.Endpoint, Bucket: server.NewBucket(t), CredentialsJSON: accountKey(t, tokens.URL)})
		storagetest.RequireCalls(t, d, requireAll(want))
		tokens.Close()
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	good := gcs.Config{Endpoint: "http://127.0.0.1:1", Bucket: "b"}
	for name, change := range map[string]func(*gcs.Config){
		"no bucket":              func(c *gcs.Config) { c.Bucket = "" },
		"a bucket with a path":   func(c *gcs.Config) { c.Bucket = "b/o" },
		"another scheme":         func(c *gcs.Config) { c.Endpoint = "ftp://host" },
		"no host":                func(c *gcs.Config) { c.Endpoint = "127.0.0.1:1" },
		"credentials in the URL": func(c *gcs.Config) { c.Endpoint = "http://user:hunter2@host" },
		"a prefix that climbs":   func(c *gcs.Config) { c.Prefix = "../b" },
		"no JSON":                func(c *gcs.Config) { c.CredentialsJSON = "hunter2" },
		"another kind of credentials": func(c *gcs.Config) {
			c.CredentialsJSON = `{"type":"external_account","credential_source":{"executable":{"command":"hunter2"}}}`
		},
	} {
		c := good
		change(&c)
		_, err := gcs.New(t.Context(), c)
		require.ErrorIs(t, err, storage.ErrConfig, name)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestMetadataAddressesAreRefused(t *testing.T) {
	server := storagetest.StartGCS(t)
	for _, c := range []gcs.Config{
		{Bucket: "b", Endpoint: "http://169.254.169.254"},
		{Bucket: "b", Endpoint: server.Endpoint, CredentialsJSON: accountKey(t, "http://169.254.169.254/token")},
	} {
		_, err := open(t, c).Stat(t.Context(), "k")
		require.ErrorIs(t, err, netguard.ErrBlocked, c.Endpoint)
		require.Equal(t, errs.CodeInvalidStorage, storage.Explain(err).Code)
	}
}

func TestObjectsCarryTheirDigest(t *testing.T) {
	server := storagetest.StartGCS(t)
	d := open(t, gcs.Config{Endpoint: server.Endpoint, Bucket: server.NewBucket(t)})
	for name, body := range map[string][]byte{"small": []byte("x"), "empty": {}, "big": storagetest.Bytes(1, 20<<20)} {
		_, err := d.Put(t.Context(), name, bytes.NewReader(body), storage.PutOptions{Size: int64(len(body)), SHA256: storagetest.Digest(body)})
		require.NoError(t, err)
		o, err := d.Stat(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, storagetest.Digest(body), o.SHA256, name)
	}
}
