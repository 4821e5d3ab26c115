package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	gcloud "cloud.google.com/go/storage"
	"github.com/dataguardian/dataguardian/storage"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

const (
	googleEndpoint = "https://storage.googleapis.com/storage/v1/"
	apiPath        = "/storage/v1/"
)

func (c Config) check() error {
	switch {
	case c.Bucket == "":
		return errors.New("the bucket is empty")
	case strings.ContainsAny(c.Bucket, "/?#\\ "):
		return fmt.Errorf("the bucket %q is not a bucket's name", c.Bucket)
	}
	return storage.CheckPrefix(strings.Trim(c.Prefix, "/"))
}

func (c Config) endpoint() (string, error) {
	if c.Endpoint == "" {
		return googleEndpoint, nil
	}
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil:
		return "", errors.New("the endpoint is not a URL") // the error would show what may be a secret
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return "", errors.New("the endpoint is not an http or https URL")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "", errors.New("the endpoint must have no credentials, query or fragment")
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = apiPath
	}
	return strings.TrimSuffix(u.String(), "/") + "/", nil
}

// authorized returns base with the credentials of c. Only keys of service
// accounts are taken from a configuration: other kinds of credentials name
// programs and addresses to ask.
func (c Config) authorized(ctx context.Context, base *http.Client) (*http.Client, error) {
	var tokens oauth2.TokenSource
	switch {
	case c.CredentialsJSON != "":
		key, err := newKeyTokens(ctx, c.CredentialsJSON, gcloud.ScopeReadWrite, base)
		if err != nil {
			return nil, errors.New("the credentials are not the JSON key of a service account")
		}
		tokens = key
	case c.Endpoint != "":
		return base, nil
	default:
		found, err := google.FindDefaultCredentials(ctx, gcloud.ScopeReadWrite)
		if err != nil {
			return nil, fmt.Errorf("there are no credentials, neither configured nor of this machine: %w", err)
		}
		tokens = found.TokenSource
	}
	client := *base
	client.Transport = &authorizing{tokens: oauth2.ReuseTokenSource(nil, tokens), base: base.Transport}
	return &client, nil
}
