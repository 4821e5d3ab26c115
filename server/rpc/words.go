package rpc

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// enum is a generated enumeration. Its values are named as the domain writes
// them, so the name is the whole mapping; value 0 is the domain's empty word. A
// test holds every enumeration against its domain type.
type enum interface {
	~int32
	protoreflect.Enum
}

// toEnum returns the value of a domain word, 0 for none.
func toEnum[E enum, W ~string](word W) E {
	var zero E
	v := zero.Descriptor().Values().ByName(protoreflect.Name(word))
	if v == nil {
		return zero
	}
	return E(v.Number())
}

// fromEnum returns the domain word of a value, empty for 0.
func fromEnum[W ~string, E enum](value E) W {
	if value == 0 {
		return ""
	}
	v := value.Descriptor().Values().ByNumber(value.Number())
	if v == nil {
		return ""
	}
	return W(v.Name())
}

var roles = map[auth.Role]pb.Access_Role{
	auth.Viewer: pb.Access_viewer, auth.Operator: pb.Access_operator, auth.Admin: pb.Access_admin,
}

func toRole(role auth.Role) pb.Access_Role { return roles[role] }

// roleFrom returns auth.Nobody for a role no caller can have.
func roleFrom(role pb.Access_Role) auth.Role {
	for domain, declared := range roles {
		if declared == role {
			return domain
		}
	}
	return auth.Nobody
}

func timestamp(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return moment(*t)
}

// moment leaves the zero time out.
func moment(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFrom(ts *timestamppb.Timestamp) *time.Time {
	if ts == nil {
		return nil
	}
	t := ts.AsTime()
	return &t
}

func toInt32(n *int) *int32 {
	if n == nil {
		return nil
	}
	return proto.Int32(count(*n))
}

// count fits a count into the contract's 32 bits.
func count(n int) int32 {
	const most = 1<<31 - 1
	return int32(min(max(n, 0), most))
}

func intFrom(n *int32) *int {
	if n == nil {
		return nil
	}
	i := int(*n)
	return &i
}

// some returns a pointer to s, nil when it is empty.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// gib converts bytes to GiB.
func gib(bytes *int64) *float64 {
	if bytes == nil {
		return nil
	}
	return proto.Float64(float64(*bytes) / (1 << 30))
}

func millis(d time.Duration) *int32 { return proto.Int32(count(int(d.Milliseconds()))) }

// paged is a request for a page of a list.
type paged interface {
	GetPage() int32
	GetLimit() int32
}

func pageOf(req paged) paging.Page {
	return paging.Page{Number: int(req.GetPage()), Limit: int(req.GetLimit())}.Normal()
}

func pagination(p paging.Page, total int) *pb.Pagination {
	return &pb.Pagination{Total: count(total), Page: count(p.Number), Limit: count(p.Limit), TotalPages: count(p.Pages(total))}
}

// mapped converts every element; the result is never nil.
func mapped[A, B any](in []A, convert func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, a := range in {
		out = append(out, convert(a))
	}
	return out
}

// tryMapped converts every element until one fails; the result is never nil.
func tryMapped[A, B any](in []A, convert func(A) (B, error)) ([]B, error) {
	out := make([]B, 0, len(in))
	for _, a := range in {
		b, err := convert(a)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// setWord sets a field to the domain word of a value: fromEnum for fields whose
// type belongs to a package the server does not know.
func setWord[W ~string, E enum](field *W, value E) { *field = fromEnum[W](value) }
