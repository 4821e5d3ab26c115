package s3_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/s3"
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

func TestWrongCredentialsAreTold(t *testing.T) {
	server := storagetest.StartS3(t)
	good := config(server, server.NewBucket(t))
	for name, change := range map[string]func(*s3.Config){
		"unknown key":  func(c *s3.Config) { c.AccessKeyID = "nobody" },
		"wrong secret": func(c *s3.Config) { c.SecretAccessKey = "wrong" },
	} {
		c := good
		change(&c)
		d := open(t, c)
		storagetest.RequireCalls(t, d, func(t *testing.T, method string, err error) {
			t.Helper()
			require.ErrorIs(t, err, storage.ErrPermission, "%s: %s", name, method)
		})
		_, err := storage.Validate(t.Context(), d, storage.ValidateOptions{})
		require.Equal(t, errs.CodeStorageAuth, errs.CodeOf(err))
		require.NotContains(t, err.Error(), server.SecretKey)
	}
}

func TestAMissingBucketIsTold(t *testing.T) {
	server := storagetest.StartS3(t)
	d := open(t, config(server, "missing-bucket"))
	storagetest.RequireCalls(t, d, requireAll(storage.ErrNoBucket))
	_, err := d.Sweep(t.Context(), "", 0)
	require.ErrorIs(t, err, storage.ErrNoBucket)
	_, err = storage.Validate(t.Context(), d, storage.ValidateOptions{})
	require.Equal(t, errs.CodeInvalidStorage, errs.CodeOf(err))
}

// refusing answers everything with an error of S3's form.
func refusing(t *testing.T, status int, code string, date time.Time) *s3.Driver {
	t.Helper()
	server := storagetest.StartFront(t, "http://127.0.0.1:1")
	server.Intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		w.Header().Set("Date", date.UTC().Format(http.TimeFormat))
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
		}
		return true
	})
	return open(t, s3.Config{Endpoint: server.Endpoint, Bucket: "b", AccessKeyID: "a", SecretAccessKey: "s", ForcePathStyle: true})
}

func TestClocksThatDifferAreTold(t *testing.T) {
	d := refusing(t, http.StatusForbidden, "RequestTimeTooSkewed", time.Now().Add(-20*time.Minute))
	storagetest.RequireCalls(t, d, requireAll(storage.ErrClockSkew))
	_, err := storage.Validate(t.Context(), d, storage.ValidateOptions{})
	require.Contains(t, errs.Message(err), "clocks")

	d = refusing(t, http.StatusForbidden, "AccessDenied", time.Now())
	storagetest.RequireCalls(t, d, requireAll(storage.ErrPermission))
}

func TestABucketThatKeepsWhatIsDeletedIsTold(t *testing.T) {
	server := storagetest.StartS3(t)
	front := storagetest.StartFront(t, server.Endpoint)
	c := config(server, server.NewBucket(t))
	c.Endpoint = front.Endpoint
	d := open(t, c)
	report, err := storage.Validate(t.Context(), d, storage.ValidateOptions{})
	require.NoError(t, err)
	require.Empty(t, report.Warnings)
	for answer, warnings := range map[string]int{
		"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>":   1,
		"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>": 0,
		"<VersioningConfiguration/>": 0,
		"":                           0, // who asks is refused
	} {
		front.Intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if !r.URL.Query().Has("versioning") {
				return false
			}
			if answer == "" {
				w.WriteHeader(http.StatusForbidden)
			}
			_, _ = fmt.Fprint(w, answer)
			return true
		})
		report, err := storage.Validate(t.Context(), d, storage.ValidateOptions{})
		require.NoError(t, err)
		require.Len(t, report.Warnings, warnings, answer)
	}
}

func TestErrorsOfOtherStoresAreUnderstood(t *testing.T) {
	for code, c := range map[string]struct {
		status int
		want   error
	}{
		"XMinioStorageFull":            {http.StatusInsufficientStorage, storage.ErrFull},
		"QuotaExceeded":                {http.StatusForbidden, storage.ErrFull},
		"XAmzContentSHA256Mismatch":    {http.StatusBadRequest, storage.ErrChecksum},
		"KeyTooLongError":              {http.StatusBadRequest, storage.ErrBadKey},
		"AuthorizationHeaderMalformed": {http.StatusBadRequest, storage.ErrConfig},
		"ExpiredToken":                 {http.StatusBadRequest, storage.ErrPermission},
	} {
		_, err := refusing(t, c.status, code, time.Now()).Put(t.Context(), "k", strings.NewReader("x"), storage.PutOptions{Size: 1})
		require.ErrorIs(t, err, c.want, code)
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	good := s3.Config{Endpoint: "http://127.0.0.1:1", Bucket: "b", AccessKeyID: "a", SecretAccessKey: "s"}
	for name, change := range map[string]func(*s3.Config){
		"no bucket":              func(c *s3.Config) { c.Bucket = "" },
		"a bucket with a path":   func(c *s3.Config) { c.Bucket = "b/../c" },
		"no secret":              func(c *s3.Config) { c.SecretAccessKey = "" },
		"no key":                 func(c *s3.Config) { c.AccessKeyID = "" },
		"no credentials":         func(c *s3.Config) { c.AccessKeyID, c.SecretAccessKey = "", "" },
		"another scheme":         func(c *s3.Config) { c.Endpoint = "ftp://host" },
		"no host":                func(c *s3.Config) { c.Endpoint = "http://" },
		"not a URL":              func(c *s3.Config) { c.Endpoint = "http://ho st:x" },
		"credentials in the URL": func(c *s3.Config) { c.Endpoint = "http://user:hunter2@host" },
		"a query":                func(c *s3.Config) { c.Endpoint = "http://host?x=1" },
		"a prefix that climbs":   func(c *s3.Config) { c.Prefix = "a/../../b" },
		"tiny parts":             func(c *s3.Config) { c.PartSize = 1 << 20 },
	} {
		c := good
		change(&c)
		_, err := s3.New(t.Context(), c)
		require.ErrorIs(t, err, storage.ErrConfig, name)
		require.NotContains(t, err.Error(), "hunter2")
	}
	for _, c := range []s3.Config{good, {Bucket: "b", AccessKeyID: "a", SecretAccessKey: "s"}} {
		open(t, c)
	}
}

func TestAnEndpointWithoutSchemeUsesTheOneConfigured(t *testing.T) {
	server := storagetest.StartS3(t)
	c := config(server, server.NewBucket(t))
	c.Endpoint = strings.TrimPrefix(c.Endpoint, "http://")
	_, err := open(t, c).Stat(t.Context(), "absent")
	require.ErrorIs(t, err, storage.ErrNotExist)
	c.UseSSL = true
	_, err = open(t, c).Stat(t.Context(), "absent")
	require.Contains(t, storage.Explain(err).Msg, "does not speak TLS", "%v", err)
}

func TestMetadataAddressesAreRefused(t *testing.T) {
	for _, endpoint := range []string{"http://169.254.169.254", "http://[fd00:ec2::254]"} {
		d := open(t, s3.Config{Endpoint: endpoint, Bucket: "b", AccessKeyID: "a", SecretAccessKey: "s", ForcePathStyle: true})
		_, err := d.Stat(t.Context(), "k")
		require.ErrorIs(t, err, netguard.ErrBlocked, endpoint)
		require.Equal(t, errs.CodeInvalidStorage, storage.Explain(err).Code)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	server := storagetest.StartS3(t)
	front := storagetest.StartFront(t, server.Endpoint)
	front.Intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		http.Redirect(w, r, server.Endpoint+r.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	c := config(server, server.NewBucket(t))
	c.Endpoint = front.Endpoint
	_, err := open(t, c).Put(t.Context(), "k", strings.NewReader("x"), storage.PutOptions{Size: 1})
	require.Error(t, err)
	c.Endpoint = server.Endpoint
	_, err = open(t, c).Stat(t.Context(), "k")
	require.ErrorIs(t, err, storage.ErrNotExist)
}

func TestAStoreThatDoesNotKnowExclusiveWritesIsAskedFirst(t *testing.T) {
	server := storagetest.StartS3(t)
	front := storagetest.StartFront(t, server.Endpoint)
	front.Answer(http.StatusNotImplemented, func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" })
	c := config(server, server.NewBucket(t))
	c.Endpoint = front.Endpoint
	for name, body := range map[string][]byte{"small": []byte("x"), "big": storagetest.Bytes(1, 2*partSize)} {
		for _, opts := range []storage.PutOptions{
			{Size: int64(len(body)), SHA256: storagetest.Digest(body), IfAbsent: true}, {Size: -1, IfAbsent: true},
		} {
			d := open(t, c)
			key := fmt.Sprintf("%s/%d", name, opts.Size)
			_, err := d.Put(t.Context(), key, bytes.NewReader(body), opts)
			require.NoError(t, err)
			_, err = d.Put(t.Context(), key, bytes.NewReader(body), opts)
			require.ErrorIs(t, err, storage.ErrExist)
		}
	}
	require.Empty(t, server.OpenUploads(t, c.Bucket))
}

func TestASweepAbortsOldUploadsUnderItsPrefix(t *testing.T) {
	server := storagetest.StartS3(t)
	c := config(server, server.NewBucket(t))
	c.Prefix = "p"
	d := open(t, c)
	for _, key := range []string{"p/a/1", "p/a/2 +é", "p/b", "elsewhere"} {
		_, err := server.Client().CreateMultipartUpload(t.Context(), &awss3.CreateMultipartUploadInput{Bucket: &c.Bucket, Key: aws.String(key)})
		require.NoError(t, err)
	}
	n, err := d.Sweep(t.Context(), "", time.Hour)
	require.NoError(t, err)
	require.Zero(t, n, "they are too young")
	n, err = d.Sweep(t.Context(), "a/", -time.Minute)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.ElementsMatch(t, []string{"p/b", "elsewhere"}, server.OpenUploads(t, c.Bucket))
	n, err = d.Sweep(t.Context(), "", -time.Minute)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"elsewhere"}, server.OpenUploads(t, c.Bucket))
}

func TestObjectsCarryTheirDigestAndClass(t *testing.T) {
	server := storagetest.StartS3(t)
	c := config(server, server.NewBucket(t))
	c.StorageClass = "STANDARD"
	d := open(t, c)
	for name, body := range map[string][]byte{"small": []byte("x"), "empty": {}, "big": storagetest.Bytes(1, 2*partSize)} {
		_, err := d.Put(t.Context(), name, bytes.NewReader(body), storage.PutOptions{Size: int64(len(body)), SHA256: storagetest.Digest(body)})
		require.NoError(t, err)
		o, err := d.Stat(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, storagetest.Digest(body), o.SHA256, name)
		raw, err := server.Client().HeadObject(t.Context(), &awss3.HeadObjectInput{Bucket: &c.Bucket, Key: &name})
		require.NoError(t, err)
		require.Equal(t, storagetest.Digest(body), raw.Metadata["sha256"])
	}
}

func TestAKeyThatIsTooLongWithItsPrefixIsRefused(t *testing.T) {
	c := s3.Config{Endpoint: "http://127.0.0.1:1", Bucket: "b", AccessKeyID: "a", SecretAccessKey: "s", Prefix: strings.Repeat("p/", 100)}
	_, err := open(t, c).Stat(t.Context(), strings.Repeat("k/", 450)+"k")
	require.ErrorIs(t, err, storage.ErrBadKey)
}
