package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	gcloud "cloud.google.com/go/storage"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/internal/transport"
	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
)

// failed adds the sentinel of package storage that a store's error means, and
// the end of ctx when that is why.
func failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	if target := meaning(err); target != nil {
		return fmt.Errorf("%w: %w", target, err)
	}
	return transport.TimedOut(err)
}

func meaning(err error) error {
	var token *oauth2.RetrieveError
	switch {
	case errors.Is(err, gcloud.ErrBucketNotExist):
		return storage.ErrNoBucket
	case errors.Is(err, gcloud.ErrObjectNotExist):
		return storage.ErrNotExist
	case errors.As(err, &token):
		return meaningOfToken(token)
	}
	switch statusOf(err) {
	case http.StatusUnauthorized:
		return storage.ErrPermission
	case http.StatusForbidden:
		return meaningOfForbidden(err)
	case http.StatusNotFound:
		return storage.ErrNotExist
	case http.StatusPreconditionFailed:
		return storage.ErrExist
	case http.StatusInsufficientStorage:
		return storage.ErrFull
	}
	return nil
}

// meaningOfToken is for the service that trades a key for a token. It refuses
// keys that claim to be issued in its past or future.
func meaningOfToken(err *oauth2.RetrieveError) error {
	switch {
	case bytes.Contains(err.Body, []byte("iat and exp")):
		return storage.ErrClockSkew
	case err.Response != nil && err.Response.StatusCode < http.StatusInternalServerError:
		return storage.ErrPermission
	}
	return nil
}

// Reasons of a 403 that are no matter of permission.
var limits = map[string]error{
	"rateLimitExceeded":     nil,
	"userRateLimitExceeded": nil,
	"quotaExceeded":         storage.ErrFull,
	"storageQuotaExceeded":  storage.ErrFull,
}

func meaningOfForbidden(err error) error {
	var api *googleapi.Error
	if errors.As(err, &api) {
		for _, item := range api.Errors {
			if target, ok := limits[item.Reason]; ok {
				return target
			}
		}
	}
	return storage.ErrPermission
}

func statusOf(err error) int {
	var api *googleapi.Error
	if errors.As(err, &api) {
		return api.Code
	}
	return 0
}
