package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// route is the REST side of one RPC, read from its google.api.http option.
type route struct {
	name       string // full name of the RPC, "/package.Service/Method"
	verb, path string // such as GET, /api/executions/{id}
	input      protoreflect.MessageType
	inPath     []string // fields that the path fills
	body       bool     // takes its fields from a JSON body
	stream     bool
	raw        bool // answers bytes, not messages
}

// pattern is the path as the mux prints it.
func (r *route) pattern() string { return strings.ReplaceAll(r.path, "}", "=*}") }

// matches reports whether a request's path is the route's.
func (r *route) matches(path string) bool {
	want, have := strings.Split(r.path, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return false
	}
	for i, segment := range want {
		if !strings.HasPrefix(segment, "{") && segment != have[i] {
			return false
		}
	}
	return true
}

// routes holds every route by method and pattern.
type routes map[string]*route

func readRoutes() (routes, error) {
	table := routes{}
	var failed error
	protoregistry.GlobalFiles.RangeFilesByPackage(pb.File_dataguardian_v1_access_proto.Package(), func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				r, err := readRoute(methods.Get(j))
				if err != nil {
					failed = err
					return false
				}
				table[r.verb+" "+r.pattern()] = r
			}
		}
		return true
	})
	return table, failed
}

func readRoute(m protoreflect.MethodDescriptor) (*route, error) {
	rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil, fmt.Errorf("RPC %s has no REST path", m.FullName())
	}
	input, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	if err != nil {
		return nil, fmt.Errorf("request of RPC %s: %w", m.FullName(), err)
	}
	r := &route{
		name: fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), input: input, body: rule.GetBody() != "",
		stream: m.IsStreamingServer(), raw: m.Output().FullName() == "google.api.HttpBody",
	}
	switch {
	case rule.GetGet() != "":
		r.verb, r.path = http.MethodGet, rule.GetGet()
	case rule.GetPost() != "":
		r.verb, r.path = http.MethodPost, rule.GetPost()
	case rule.GetPut() != "":
		r.verb, r.path = http.MethodPut, rule.GetPut()
	case rule.GetDelete() != "":
		r.verb, r.path = http.MethodDelete, rule.GetDelete()
	default:
		return nil, fmt.Errorf("RPC %s has a REST method the gateway does not know", m.FullName())
	}
	for segment := range strings.SplitSeq(r.path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			r.inPath = append(r.inPath, strings.TrimSuffix(name, "}"))
		}
	}
	return r, nil
}

// of returns the route that the mux has matched.
func (t routes) of(r *http.Request) (*route, error) {
	pattern, ok := runtime.HTTPPattern(r.Context())
	if found := t[r.Method+" "+pattern.String()]; ok && found != nil {
		return found, nil
	}
	return nil, errs.New(errs.Internal, errs.CodeInternal, "no route for %s %s", r.Method, pattern)
}

// methods lists what a path takes.
func (t routes) methods(path string) []string {
	var methods []string
	for _, r := range t {
		if r.matches(path) {
			methods = append(methods, r.verb)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}
