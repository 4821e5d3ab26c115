package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/gcs"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/s3"
)

// storageTypes are the types that opener can open.
var storageTypes = []location.Type{location.Local, location.S3, location.MinIO, location.GCS}

// markKey is an object that each local storage holds. A directory without it,
// although backups should lie there, is another directory: mostly the mount point
// of a disk that is not mounted.
const markKey = ".dataguardian-storage"

// opener turns storage locations into drivers.
type opener struct {
	// copies counts the copies of backups that a location should hold.
	copies func(ctx context.Context, locationID string) (int, error)
}

// Open implements location.Opener.
func (o opener) Open(ctx context.Context, l location.Location) (storage.Driver, error) {
	c := settingsOf(l.Config)
	switch l.Type {
	case location.Local:
		return o.local(ctx, l, c)
	case location.S3:
		return s3.New(ctx, s3.Config{
			Endpoint: c.text("endpoint"), UseSSL: true, Bucket: c.text("bucket"), Region: c.text("region"), Prefix: c.prefix(),
			AccessKeyID: c.text("access_key_id"), SecretAccessKey: c.text("secret_access_key"),
			StorageClass: c.text("storage_class"), ForcePathStyle: c.flag("force_path_style", false),
		})
	case location.MinIO:
		return s3.New(ctx, s3.Config{
			Endpoint: c.text("endpoint"), UseSSL: c.flag("use_ssl", true), Bucket: c.text("bucket"),
			AccessKeyID: c.text("access_key"), SecretAccessKey: c.text("secret_key"), ForcePathStyle: true,
		})
	case location.GCS:
		return gcs.New(ctx, gcs.Config{
			Bucket: c.text("bucket"), Prefix: c.prefix(), CredentialsJSON: c.text("credentials_json"), Endpoint: c.text("endpoint"),
		})
	}
	return nil, fmt.Errorf("storage of type %q cannot be opened", l.Type)
}

func (o opener) local(ctx context.Context, l location.Location, c settingsOf) (storage.Driver, error) {
	d, err := local.New(local.Config{Path: c.text("path"), MaxBytes: int64(c.number("max_size_gb") * (1 << 30))})
	if err != nil {
		return nil, err
	}
	if err := o.mark(ctx, d, l.ID); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// mark makes sure that a directory is the one the location had from the start.
func (o opener) mark(ctx context.Context, d storage.Driver, id string) error {
	_, err := d.Stat(ctx, markKey)
	if !errors.Is(err, storage.ErrNotExist) || id == "" {
		return ignore(err, storage.ErrNotExist)
	}
	copies, err := o.copies(ctx, id)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return err
	}
	if copies > 0 {
		return errs.Wrap(storage.ErrNoBucket, errs.Unavailable, errs.CodeStorageUnavailable,
			"%d copies of backups should lie in the directory, but it is not the one they were written to: mount its disk, or put an empty file named %s there if it is", copies, markKey)
	}
	_, err = d.Put(ctx, markKey, strings.NewReader(""), storage.PutOptions{IfAbsent: true})
	return ignore(err, storage.ErrExist)
}

func ignore(err, fine error) error {
	if errors.Is(err, fine) {
		return nil
	}
	return err
}

// settingsOf reads a config that was checked when it was stored.
type settingsOf location.Config

func (s settingsOf) text(key string) string {
	v, _ := s[key].(string)
	return v
}

func (s settingsOf) number(key string) float64 {
	v, _ := s[key].(float64)
	return v
}

func (s settingsOf) flag(key string, fallback bool) bool {
	if v, ok := s[key].(bool); ok {
		return v
	}
	return fallback
}

func (s settingsOf) prefix() string { return strings.Trim(s.text("prefix"), "/") }
