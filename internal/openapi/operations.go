package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/server/gateway"
)

const (
	ndjson      = "application/x-ndjson"
	eventStream = "text/event-stream"
)

// described collects which messages travel in which direction.
type described struct {
	requests  map[string]protoreflect.MessageDescriptor // by schema name
	responses map[string]protoreflect.MessageDescriptor // by schema name
}

// describeOperations completes the operation of every RPC.
func describeOperations(doc *openapi3.T) (described, error) {
	d := described{
		requests:  map[string]protoreflect.MessageDescriptor{},
		responses: map[string]protoreflect.MessageDescriptor{},
	}
	for _, method := range methods() {
		operation, err := find(doc, method)
		if err != nil {
			return described{}, err
		}
		operation.OperationID = string(method.Name())
		operation.Summary = strings.ReplaceAll(operation.Summary, "\n", " ")
		describeAccess(operation, method)
		describeParameters(operation, method)
		if err := d.describeBody(doc, operation, method); err != nil {
			return described{}, err
		}
		if err := d.describeResponses(doc, operation, method); err != nil {
			return described{}, err
		}
	}
	return d, nil
}

// methods lists the RPCs of our API.
func methods() []protoreflect.MethodDescriptor {
	var all []protoreflect.MethodDescriptor
	pkg := pb.File_dataguardian_v1_common_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(pkg, func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				all = append(all, service.Methods().Get(j))
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b protoreflect.MethodDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return all
}

// binding is the verb and the path of an RPC.
func binding(method protoreflect.MethodDescriptor) (verb, path string) {
	rule, _ := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	switch pattern := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, pattern.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, pattern.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, pattern.Post
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, pattern.Delete
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, pattern.Patch
	default:
		return "", ""
	}
}

func find(doc *openapi3.T, method protoreflect.MethodDescriptor) (*openapi3.Operation, error) {
	verb, path := binding(method)
	item := doc.Paths.Value(path)
	if verb == "" || item == nil || item.GetOperation(verb) == nil {
		return nil, fmt.Errorf("%s has no operation (%s %s)", method.FullName(), verb, path)
	}
	return item.GetOperation(verb), nil
}

// describeAccess says who may call.
func describeAccess(operation *openapi3.Operation, method protoreflect.MethodDescriptor) {
	role, _ := proto.GetExtension(method.Options(), pb.E_Access).(pb.Access_Role)
	note := fmt.Sprintf("Needs the role %s or a higher one.", role)
	switch role {
	case pb.Access_anyone:
		operation.Security = openapi3.NewSecurityRequirements()
		note = "Needs no credential."
	case pb.Access_admin:
		note = "Needs the role admin."
	case pb.Access_role_unspecified:
		note = "Refused for everybody."
	default:
	}
	if reach, _ := proto.GetExtension(method.Options(), pb.E_Reach).(pb.Reach_Kind); reach == pb.Reach_whole {
		note += " Refused for a token with a scope."
	}
	operation.Description = strings.TrimSpace(operation.Description + "\n\n" + note)
}

// describeParameters adds the rules of path and query parameters.
func describeParameters(operation *openapi3.Operation, method protoreflect.MethodDescriptor) {
	for _, parameter := range operation.Parameters {
		field := method.Input().Fields().ByName(protoreflect.Name(parameter.Value.Name))
		if field != nil && parameter.Value.Schema != nil {
			constrain(parameter.Value.Schema.Value, field)
		}
	}
	if method.FullName() == streamLogs {
		resume := openapi3.NewHeaderParameter("Last-Event-ID").WithSchema(openapi3.NewStringSchema().WithFormat("int64"))
		resume.Description = "For Server-Sent Events: the id of the last event that was seen; takes the place of after."
		operation.Parameters = append(operation.Parameters, &openapi3.ParameterRef{Value: resume})
	}
}

// describeBody drops a body that could hold nothing and remembers the others.
func (d described) describeBody(doc *openapi3.T, operation *openapi3.Operation, method protoreflect.MethodDescriptor) error {
	if operation.RequestBody == nil {
		return nil
	}
	media := operation.RequestBody.Value.Content.Get("application/json")
	if media == nil || media.Schema == nil {
		return fmt.Errorf("%s has a body that is not JSON", method.FullName())
	}
	name, found := referred(media.Schema)
	if !found {
		return fmt.Errorf("%s has a body without a schema of its own", method.FullName())
	}
	if len(doc.Components.Schemas[name].Value.Properties) == 0 {
		operation.RequestBody = nil
		return nil
	}
	d.requests[name] = method.Input()
	operation.RequestBody.Value.Extensions = nil
	operation.RequestBody.Value.Required = len(required(method.Input())) > 0
	return d.collect(doc, method.Input(), d.requests)
}

// referred is the name of the schema that a reference, wrapped or not, points to.
func referred(schema *openapi3.SchemaRef) (string, bool) {
	reference := schema.Ref
	if reference == "" && schema.Value != nil && len(schema.Value.AllOf) == 1 {
		reference = schema.Value.AllOf[0].Ref
	}
	return strings.CutPrefix(reference, schemaPrefix)
}

// describeResponses sets the real status, content and error of an operation.
func (d described) describeResponses(doc *openapi3.T, operation *openapi3.Operation, method protoreflect.MethodDescriptor) error {
	generated := operation.Responses.Status(http.StatusOK)
	if generated == nil {
		return fmt.Errorf("%s has no answer", method.FullName())
	}
	status := gateway.SuccessStatus(fullMethod(method))
	response := openapi3.NewResponse().WithDescription(success(status))
	switch {
	case method.Output().FullName() == "google.api.HttpBody":
		describeDownload(response, method)
	case status == http.StatusNoContent:
	case method.IsStreamingServer():
		event, err := d.output(doc, method)
		if err != nil {
			return err
		}
		describeStream(response, event)
	default:
		response.Content = generated.Value.Content
		if _, err := d.output(doc, method); err != nil {
			return err
		}
	}
	operation.Responses = openapi3.NewResponses(openapi3.WithStatus(status, &openapi3.ResponseRef{Value: response}))
	operation.Responses.Set("default", &openapi3.ResponseRef{Ref: "#/components/responses/Error"})
	if method.FullName() == getHealth {
		degraded := openapi3.NewResponse().WithDescription("Something does not work; the body says what.").WithContent(response.Content)
		operation.Responses.Set("503", &openapi3.ResponseRef{Value: degraded})
	}
	return nil
}

// Methods that do more than their descriptors say.
const (
	getHealth      = protoreflect.FullName("dataguardian.v1.HealthService.GetHealth")
	streamLogs     = protoreflect.FullName("dataguardian.v1.ExecutionService.StreamExecutionLogs")
	downloadBackup = protoreflect.FullName("dataguardian.v1.BackupService.DownloadBackup")
)

// output remembers the message that an RPC answers and is its schema's name.
func (d described) output(doc *openapi3.T, method protoreflect.MethodDescriptor) (string, error) {
	if err := d.collect(doc, method.Output(), d.responses); err != nil {
		return "", err
	}
	name, found := schemaName(doc, method.Output())
	if method.IsStreamingServer() && !found {
		return "", fmt.Errorf("%s streams a message without a schema", method.FullName())
	}
	return name, nil
}

// describeStream is an answer that goes on: a line or an event per message.
func describeStream(response *openapi3.Response, event string) {
	response.WithDescription("A stream of events, until the client leaves or the server ends it.")
	lines := openapi3.NewMediaType().WithSchemaRef(&openapi3.SchemaRef{Ref: schemaPrefix + event})
	text := openapi3.NewStringSchema()
	text.Description = "Server-Sent Events; the data of each is a " + event + " in JSON."
	response.Content = openapi3.Content{
		ndjson:      lines,
		eventStream: openapi3.NewMediaType().WithSchema(text),
	}
}

// describeDownload is an answer of bytes.
func describeDownload(response *openapi3.Response, method protoreflect.MethodDescriptor) {
	contentType := "application/octet-stream"
	if method.FullName() == downloadBackup {
		contentType = "application/x-tar"
	}
	response.WithDescription("The bytes. A failure midway breaks the connection; it never ends cleanly.")
	response.Content = openapi3.NewContentWithSchema(openapi3.NewStringSchema().WithFormat("binary"), []string{contentType})
	name := &openapi3.Header{Parameter: openapi3.Parameter{
		Description: "A name to save it under.",
		Schema:      openapi3.NewSchemaRef("", openapi3.NewStringSchema()),
	}}
	response.Headers = openapi3.Headers{"Content-Disposition": {Value: name}}
}

func success(status int) string {
	switch status {
	case http.StatusCreated:
		return "Created."
	case http.StatusAccepted:
		return "Accepted; the work goes on in the background."
	case http.StatusNoContent:
		return "Done; there is no content."
	default:
		return "Success."
	}
}

// fullMethod is the name gRPC calls a method by: /package.Service/Method.
func fullMethod(method protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
}
