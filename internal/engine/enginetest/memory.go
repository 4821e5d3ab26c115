// Package enginetest is the conformance suite of engines, and what their tests
// need besides: a sink and source in memory.
package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// Memory is a sink and a source that keeps its members in memory. The hooks
// are set before use.
type Memory struct {
	// OnWrite is called before each write with the bytes the member has; its
	// error is that of the write.
	OnWrite func(member string, size int64) error
	// OnRead is called before each read of a member with the bytes read so far.
	OnRead func(member string, size int64) error

	mu      sync.Mutex
	members map[string]*memoryMember
}

type memoryMember struct {
	owner  *Memory
	name   string
	data   bytes.Buffer
	state  MemberState
	reason error
}

// MemberState is how a member ended.
type MemberState int

// States of a member.
const (
	Absent MemberState = iota
	Open
	Closed
	Failed
)

var errEnded = errors.New("the member was ended before")

// Put makes a member out of bytes.
func (m *Memory) Put(member string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.members == nil {
		m.members = map[string]*memoryMember{}
	}
	mm := &memoryMember{owner: m, name: member, state: Closed}
	mm.data.Write(data)
	m.members[member] = mm
}

// Bytes returns what a member has, whole or not; nil when there is none.
func (m *Memory) Bytes(member string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mm := m.members[member]; mm != nil {
		return append([]byte{}, mm.data.Bytes()...)
	}
	return nil
}

// State returns how a member ended, and the error of a failed one.
func (m *Memory) State(member string) (MemberState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mm := m.members[member]; mm != nil {
		return mm.state, mm.reason
	}
	return Absent, nil
}

// Create implements engine.Sink.
func (m *Memory) Create(ctx context.Context, member string) (engine.MemberWriter, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.members[member] != nil {
		return nil, errors.New("the member exists: " + member)
	}
	if m.members == nil {
		m.members = map[string]*memoryMember{}
	}
	mm := &memoryMember{owner: m, name: member, state: Open}
	m.members[member] = mm
	return mm, nil
}

// Members implements engine.Source.
func (m *Memory) Members() []engine.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []engine.Member
	for _, name := range slices.Sorted(maps.Keys(m.members)) {
		list = append(list, engine.Member{Name: name, Size: int64(m.members[name].data.Len())})
	}
	return list
}

// Open implements engine.Source.
func (m *Memory) Open(ctx context.Context, member string) (io.ReadCloser, error) {
	data := m.Bytes(member)
	if data == nil {
		return nil, errors.New("no member " + member)
	}
	return &memoryReader{ctx: ctx, owner: m, name: member, Reader: bytes.NewReader(data)}, nil
}

func (mm *memoryMember) Write(b []byte) (int, error) {
	mm.owner.mu.Lock()
	size, state := int64(mm.data.Len()), mm.state
	mm.owner.mu.Unlock()
	if state != Open {
		return 0, errEnded
	}
	if mm.owner.OnWrite != nil {
		if err := mm.owner.OnWrite(mm.name, size); err != nil {
			return 0, err
		}
	}
	mm.owner.mu.Lock()
	defer mm.owner.mu.Unlock()
	return mm.data.Write(b)
}

func (mm *memoryMember) Close() error { return mm.end(Closed, nil) }

func (mm *memoryMember) CloseWithError(err error) error { return mm.end(Failed, err) }

func (mm *memoryMember) end(s MemberState, reason error) error {
	mm.owner.mu.Lock()
	defer mm.owner.mu.Unlock()
	if mm.state != Open {
		return errEnded
	}
	mm.state, mm.reason = s, reason
	return nil
}

type memoryReader struct {
	*bytes.Reader
	ctx   context.Context //nolint:containedctx // a reader belongs to one call
	owner *Memory
	name  string
}

func (r *memoryReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	if r.owner.OnRead != nil {
		if err := r.owner.OnRead(r.name, r.Size()-int64(r.Len())); err != nil {
			return 0, err
		}
	}
	return r.Reader.Read(b)
}

// WriteTo would pass by the hooks.
func (r *memoryReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

func (*memoryReader) Close() error { return nil }
