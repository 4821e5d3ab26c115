package location

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/settings"
	"github.com/dataguardian/dataguardian/storage"
)

const configField = "config"

var secretFields = map[Type][]string{
	S3:    {"secret_access_key"},
	MinIO: {"secret_key"},
	GCS:   {"credentials_json"},
}

// SecretFields names the settings of a type that are encrypted at rest and never
// shown.
func SecretFields(t Type) []string { return secretFields[t] }

// placeFields say where the bytes go. A location that holds backups keeps them.
var placeFields = map[Type][]string{
	Local: {"path"},
	S3:    {"endpoint", "bucket", "prefix", "region"},
	MinIO: {"endpoint", "bucket"},
	GCS:   {"endpoint", "bucket", "prefix"},
}

// CheckConfig returns config in normal form. The error is Invalid
// (CodeInvalidStorage) and lists every bad field.
func CheckConfig(t Type, config map[string]any) (Config, error) {
	r := settings.NewReader(configField, config)
	switch t {
	case Local:
		checkLocal(r)
	case S3:
		checkS3(r)
	case MinIO:
		checkMinIO(r)
	case GCS:
		checkGCS(r)
	}
	if fields := r.Fields(); len(fields) > 0 {
		return nil, errs.InvalidFields(errs.CodeInvalidStorage, fields...)
	}
	normal := Config(settings.Merge(nil, config))
	if path, ok := normal["path"].(string); ok {
		normal["path"] = filepath.Clean(path)
	}
	return normal, nil
}

func checkLocal(r *settings.Reader) {
	path := r.RequiredLine("path", 4000)
	r.Number("max_size_gb", 1<<30)
	switch {
	case path == "":
	case !filepath.IsAbs(path):
		r.Complain("path", "must be an absolute path")
	case slices.Contains(strings.Split(path, "/"), ".."):
		r.Complain("path", `must not hold ".."`)
	case filepath.Clean(path) == "/":
		r.Complain("path", "must not be the root directory")
	}
}

func checkS3(r *settings.Reader) {
	checkBucket(r)
	r.Line("region", 100)
	if !r.Has("endpoint") && !r.Has("region") {
		r.Complain("region", "is required without an endpoint")
	}
	checkEndpoint(r, false)
	checkPair(r, "access_key_id", "secret_access_key")
	checkPrefix(r)
	r.Line("storage_class", 100)
	r.Bool("force_path_style", false)
}

func checkMinIO(r *settings.Reader) {
	checkBucket(r)
	checkEndpoint(r, true)
	r.Required("access_key", 1000)
	r.Required("secret_key", 4000)
	r.Bool("use_ssl", true)
}

func checkGCS(r *settings.Reader) {
	checkBucket(r)
	checkEndpoint(r, false)
	checkPrefix(r)
	if key := r.String("credentials_json", 64<<10); key != "" && !strings.HasPrefix(strings.TrimSpace(key), "{") {
		r.Complain("credentials_json", "must be the JSON text of a service account key")
	}
}

func checkBucket(r *settings.Reader) {
	bucket := r.Required("bucket", 222)
	if strings.ContainsAny(bucket, "/\\ ?#%\t\r\n") {
		r.Complain("bucket", "must be a bucket's bare name")
	}
}

func checkPair(r *settings.Reader, id, secret string) {
	r.Line(id, 1000)
	r.String(secret, 4000)
	if r.Has(id) != r.Has(secret) {
		r.Complain(secret, "must come together with "+id)
	}
}

func checkPrefix(r *settings.Reader) {
	if prefix := strings.Trim(r.String("prefix", 700), "/"); storage.CheckPrefix(prefix) != nil {
		r.Complain("prefix", `must be a relative path without empty, "." or ".." segments`)
	}
}

// checkEndpoint accepts a URL, or host[:port] where the scheme comes from use_ssl.
func checkEndpoint(r *settings.Reader, bare bool) {
	endpoint := r.Line("endpoint", 1000)
	if endpoint == "" {
		if bare && !r.Has("endpoint") {
			r.Complain("endpoint", "is required")
		}
		return
	}
	if bare && !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		r.Complain("endpoint", "must be a URL such as https://storage.example.com")
	case u.User != nil:
		r.Complain("endpoint", "must not hold credentials")
	case u.RawQuery != "" || u.Fragment != "":
		r.Complain("endpoint", "must not hold a query or fragment")
	}
}

// ConfigView returns the config a read shows: secrets only as set.
func ConfigView(t Type, c Config) map[string]any {
	view := settings.Merge(c, nil)
	for _, key := range SecretFields(t) {
		if view[key] != nil {
			view[key] = settings.Set()
		}
	}
	return view
}

// mergeConfig applies the sent settings. A secret never travels to a new endpoint
// by itself.
func mergeConfig(t Type, current Config, changes map[string]any) (merged Config, moved bool, err error) {
	merged, err = CheckConfig(t, settings.Merge(current, changes))
	if err != nil {
		return nil, false, err
	}
	for _, key := range placeFields[t] {
		moved = moved || merged[key] != current[key]
	}
	if merged["endpoint"] == current["endpoint"] && merged["use_ssl"] == current["use_ssl"] {
		return merged, moved, nil
	}
	for _, key := range SecretFields(t) {
		if current[key] != nil && merged[key] != nil && (changes[key] == nil || settings.IsSet(changes[key])) {
			return nil, false, errs.InvalidFields(errs.CodeInvalidStorage, errs.Field{
				Field: configField + "." + key, Message: "is required again when the endpoint changes",
			})
		}
	}
	return merged, moved, nil
}

// Where returns how a person would name an object or prefix of the location: its
// path on disk, or bucket and key.
func Where(l Location, key string) string {
	text := func(name string) string { s, _ := l.Config[name].(string); return s }
	switch l.Type {
	case Local:
		return filepath.Join(text("path"), key)
	case S3, MinIO:
		return "s3://" + join(text("bucket"), text("prefix"), key)
	case GCS:
		return "gs://" + join(text("bucket"), text("prefix"), key)
	}
	return key
}

func join(parts ...string) string {
	var full []string
	for _, part := range parts {
		if part = strings.Trim(part, "/"); part != "" {
			full = append(full, part)
		}
	}
	return strings.Join(full, "/")
}
