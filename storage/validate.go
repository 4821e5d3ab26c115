package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// ValidatePrefix starts every key that Validate writes.
const ValidatePrefix = ".dataguardian-check-"

// ValidateOptions choose what Validate does beyond the small object.
type ValidateOptions struct {
	// Large also writes an object of 6 MiB, which object stores take in parts.
	Large bool
}

// Report is what Validate found out.
type Report struct {
	// Latency of the smallest request, a Stat.
	Latency time.Duration
	// Available bytes, nil when the storage does not say.
	Available *int64
	// Exclusive says that the storage enforces writes that must not replace.
	Exclusive bool
	// Warnings are sentences about what works and may still surprise.
	Warnings []string
	// Steps that were taken, in order; the last one failed if Validate did.
	Steps []ValidateStep
}

// ValidateStep is one thing Validate tried.
type ValidateStep struct {
	Name string
	Took time.Duration
}

const (
	smallCheck = 1 << 10
	largeCheck = 6 << 20
	// cleanupLimit bounds how long Validate tries to remove what it wrote.
	cleanupLimit = 15 * time.Second
)

// Validate tries everything a backup needs from a storage, with an object of
// its own that it removes again, also when it fails. The error is an
// *errs.Error whose detail "step" names what failed; "left_behind" is the key
// of the object when it could not be removed.
func Validate(ctx context.Context, d Driver, o ValidateOptions) (Report, error) {
	v := &validation{driver: d, key: ValidatePrefix + strings.ToLower(rand.Text()), body: random(smallCheck)}
	steps := []step{
		{"write", "an object could not be written", v.write},
		{"write without replacing", "writing without replacing does not work", v.exclusive},
		{"stat", "the object just written could not be looked up", v.stat},
		{"read", "the object just written could not be read back", v.read},
		{"read a range", "a part of the object could not be read", v.readRange},
		{"list", "objects could not be listed", v.list},
	}
	if o.Large {
		steps = append(steps, step{"write a large object", "an object of several megabytes could not be written", v.large})
	}
	steps = append(steps,
		step{"delete", "an object could be written but not deleted", v.remove},
		step{"free space", "the free space could not be found out", v.space},
		step{"old versions", "whether deleted objects stay could not be found out", v.versions})
	for _, s := range steps {
		if err := v.run(ctx, s); err != nil {
			return v.report, v.cleanUp(ctx, err)
		}
	}
	return v.report, nil
}

// SweepChecks removes what a Validate that was killed has left behind, once it is older
// than age, and returns the keys.
func SweepChecks(ctx context.Context, d Driver, age time.Duration) (removed []string, err error) {
	for o, err := range d.List(ctx, ValidatePrefix) {
		if err == nil && time.Since(o.Modified) < age {
			continue
		}
		if err == nil {
			err = d.Delete(ctx, o.Key)
		}
		if err != nil {
			return removed, Explain(err)
		}
		removed = append(removed, o.Key)
	}
	return removed, nil
}

type step struct {
	name    string
	failure string
	run     func(context.Context) error
}

type validation struct {
	driver Driver
	key    string
	body   []byte
	report Report
}

func (v *validation) run(ctx context.Context, s step) *errs.Error {
	start := time.Now()
	err := s.run(ctx)
	v.report.Steps = append(v.report.Steps, ValidateStep{Name: s.name, Took: time.Since(start)})
	if err == nil {
		return nil
	}
	e := Explain(err).With("step", s.name)
	e.Msg = s.failure + ": " + e.Msg
	return e
}

// cleanUp removes the object after cause, even when ctx has ended.
func (v *validation) cleanUp(ctx context.Context, cause *errs.Error) *errs.Error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	if err := v.driver.Delete(ctx, v.key); err != nil && len(v.report.Steps) > 1 {
		return cause.With("left_behind", v.key)
	}
	return cause
}

func (v *validation) put(ctx context.Context, exclusive bool) error {
	o, err := v.driver.Put(ctx, v.key, bytes.NewReader(v.body), PutOptions{
		Size: int64(len(v.body)), SHA256: digest(v.body), IfAbsent: exclusive,
	})
	if err == nil && o.Size != int64(len(v.body)) {
		return fmt.Errorf("%w: %d bytes were stored instead of %d", ErrChecksum, o.Size, len(v.body))
	}
	return err
}

func (v *validation) write(ctx context.Context) error { return v.put(ctx, false) }

func (v *validation) exclusive(ctx context.Context) error {
	err := v.put(ctx, true)
	if errors.Is(err, ErrExist) {
		v.report.Exclusive = true
		return nil
	}
	return err
}

func (v *validation) stat(ctx context.Context) error {
	start := time.Now()
	o, err := v.driver.Stat(ctx, v.key)
	v.report.Latency = time.Since(start)
	if err == nil && o.Size != int64(len(v.body)) {
		return fmt.Errorf("%w: it has %d bytes instead of %d", ErrChecksum, o.Size, len(v.body))
	}
	return err
}

func (v *validation) read(ctx context.Context) error { return v.compare(ctx, 0, -1, v.body) }

func (v *validation) readRange(ctx context.Context) error {
	return v.compare(ctx, 100, 200, v.body[100:300])
}

func (v *validation) compare(ctx context.Context, offset, length int64, want []byte) error {
	r, err := v.driver.Open(ctx, v.key, offset, length)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(io.LimitReader(r, int64(len(want))+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: other bytes came back", ErrChecksum)
	}
	return nil
}

func (v *validation) list(ctx context.Context) error {
	for o, err := range v.driver.List(ctx, v.key) {
		if err != nil {
			return err
		}
		if o.Key == v.key {
			return nil
		}
	}
	return fmt.Errorf("%w: the list does not show %s", ErrNotExist, v.key)
}

func (v *validation) large(ctx context.Context) error {
	v.body = random(largeCheck)
	if err := v.write(ctx); err != nil {
		return err
	}
	return v.read(ctx)
}

func (v *validation) remove(ctx context.Context) error {
	if err := v.driver.Delete(ctx, v.key); err != nil {
		return err
	}
	_, err := v.driver.Stat(ctx, v.key)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err == nil {
		err = errors.New("the object is still there after it was deleted")
	}
	return err
}

func (v *validation) space(ctx context.Context) error {
	s, ok := v.driver.(Spacer)
	if !ok {
		return nil
	}
	n, err := s.Available(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err == nil {
		v.report.Available = &n
	}
	return err
}

// keptWarning is for a store with versioning.
const keptWarning = "the bucket has versioning switched on: backups that are deleted or replaced stay as old versions, take room and can still be read; " +
	"give it a life cycle rule that removes noncurrent versions, or switch versioning off"

// versions warns; a store that does not say, as it lets few ask, is none to warn of.
func (v *validation) versions(ctx context.Context) error {
	k, ok := v.driver.(Keeper)
	if !ok {
		return nil
	}
	if keeps, err := k.KeepsDeleted(ctx); err == nil && keeps {
		v.report.Warnings = append(v.report.Warnings, keptWarning)
	}
	return nil
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
