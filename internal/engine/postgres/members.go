package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// archiveOf lists the members that hold the archive, in order.
func archiveOf(o engine.RestoreOptions, src engine.Source) ([]engine.Member, error) {
	var one, several []engine.Member
	for _, m := range src.Members() {
		switch {
		case m.Name == Member:
			one = append(one, m)
		case numberedMember.MatchString(m.Name):
			several = append(several, m)
		}
	}
	if err := checkFormat(o.Format); err != nil {
		return nil, err
	}
	if len(one) > 0 {
		return one, nil
	}
	if len(several) == 0 {
		return nil, otherFormat()
	}
	slices.SortFunc(several, func(a, b engine.Member) int { return cmp.Compare(a.Name, b.Name) })
	for i, m := range several {
		if want := fmt.Sprintf(memberPattern, i+1); m.Name != want {
			return nil, corrupt(errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "the member %s is missing", want))
		}
	}
	return several, nil
}

// joined reads members one behind the other. It holds one of them open at a time.
type joined struct {
	ctx     context.Context //nolint:containedctx // a reader belongs to one call
	src     engine.Source
	waiting []engine.Member
	current io.ReadCloser
	begun   bool // something was read of the current one
}

// join opens the first member.
func join(ctx context.Context, src engine.Source, members []engine.Member) (*joined, error) {
	j := &joined{ctx: ctx, src: src, waiting: members}
	return j, j.next()
}

func (j *joined) next() (err error) {
	j.current, err = j.src.Open(j.ctx, j.waiting[0].Name)
	j.waiting, j.begun = j.waiting[1:], false
	return err
}

// Read implements io.Reader.
func (j *joined) Read(p []byte) (int, error) {
	for {
		n, err := j.current.Read(p)
		j.begun = j.begun || n > 0
		if !errors.Is(err, io.EOF) || len(j.waiting) == 0 {
			return n, err
		}
		if err := j.current.Close(); err != nil {
			return n, err
		}
		if err := j.next(); err != nil {
			j.current = io.NopCloser(failing{err})
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// prove proves what was read, when the current member can: those before it were read to
// their ends. Nothing is read any more once it was proven.
func (j *joined) prove() (proven bool, err error) {
	if !j.begun {
		return true, nil
	}
	p, can := j.current.(engine.Prover)
	if !can {
		return false, nil
	}
	return true, p.Prove()
}

// Close implements io.Closer.
func (j *joined) Close() error { return j.current.Close() }

// failing is a member that could not be opened.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
