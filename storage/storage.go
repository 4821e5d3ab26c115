// Package storage is the contract between backups and the places that keep
// them: local directories, S3-compatible stores and Google Cloud Storage. A
// driver moves whole objects by key; what a key means is its caller's.
package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Driver stores objects under keys (see CheckKey). Every method may be called
// concurrently. An error wraps one of the sentinels below where it applies;
// anything else is worth a retry with backoff.
type Driver interface {
	// Put stores r under key, whole or not at all: when r fails, ctx ends or the
	// store refuses, nothing is visible under key and nothing is left behind.
	// It returns only after the store has confirmed size and checksum.
	Put(ctx context.Context, key string, r io.Reader, opts PutOptions) (Object, error)
	// Open reads length bytes from offset; a negative length reads to the end.
	// The caller closes the reader and keeps ctx alive until then. A short object
	// ends in io.ErrUnexpectedEOF, never in a clean end of file; so does an offset
	// beyond the end, from Open or from the first Read.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Stat describes an object, or fails with ErrNotExist.
	Stat(ctx context.Context, key string) (Object, error)
	// Delete removes an object for good. An absent key is fine.
	Delete(ctx context.Context, key string) error
	// List yields every object whose key starts with prefix, in key order
	// (byte-wise). An error ends the sequence. The empty prefix lists everything.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Close releases connections. The driver must not be used afterwards.
	Close() error
}

// Spacer is implemented by drivers that know how much room is left.
type Spacer interface {
	// Available returns the bytes that can still be stored. errors.ErrUnsupported
	// means that the store does not say.
	Available(ctx context.Context) (int64, error)
}

// Sweeper is implemented by drivers that can hold invisible leftovers of
// interrupted writes (temporary files, open multipart uploads).
type Sweeper interface {
	// Sweep removes leftovers under prefix that are older than age and returns
	// how many there were. A store whose leftovers carry no key removes those
	// outside prefix too: they are stale all the same.
	Sweep(ctx context.Context, prefix string, age time.Duration) (int, error)
}

// Keeper is implemented by drivers of stores that can keep what was deleted.
type Keeper interface {
	// KeepsDeleted reports whether deleted objects stay as old versions, which take
	// room and can still be read. It fails where the store does not say, or not to us.
	KeepsDeleted(ctx context.Context) (bool, error)
}

// PutOptions say what is known about the bytes and how to write them.
type PutOptions struct {
	// Size of the body in bytes, or -1 when it is not known.
	Size int64
	// SHA256 is the expected digest in lower-case hex. A body that differs is
	// refused with ErrChecksum. Empty means unknown.
	SHA256 string
	// IfAbsent refuses with ErrExist when the key already has an object.
	IfAbsent bool
}

// Object describes one stored object.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
	// SHA256 in lower-case hex when the driver has computed or stored it.
	SHA256 string
}

// What can go wrong, for errors.Is. Drivers wrap the store's own error too.
var (
	ErrNotExist   = errors.New("no such object")
	ErrExist      = errors.New("the object exists already")
	ErrChecksum   = errors.New("the bytes do not match their checksum")
	ErrBadKey     = errors.New("not an acceptable key")
	ErrPermission = errors.New("the storage refused the credentials or the permission")
	ErrNoBucket   = errors.New("no such bucket or directory")
	ErrFull       = errors.New("the storage is full")
	ErrClockSkew  = errors.New("the clocks of this machine and the storage differ too much")
	ErrConfig     = errors.New("the storage's configuration is not acceptable")
)

// Permanent reports whether trying err's operation again cannot help.
func Permanent(err error) bool {
	for _, target := range []error{ErrNotExist, ErrExist, ErrBadKey, ErrPermission, ErrNoBucket, ErrFull, ErrClockSkew, ErrConfig} {
		if errors.Is(err, target) {
			return true
		}
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
