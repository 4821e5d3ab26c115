package main

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

const schemaPrefix = "#/components/schemas/"

// convert turns Swagger 2 into OpenAPI 3 and loses no description on the way.
func convert(swagger []byte) (*openapi3.T, error) {
	var raw any
	if err := json.Unmarshal(swagger, &raw); err != nil {
		return nil, fmt.Errorf("parse the Swagger document: %w", err)
	}
	wrapped, err := json.Marshal(wrapReferences(raw))
	if err != nil {
		return nil, fmt.Errorf("encode the Swagger document: %w", err)
	}
	var v2 openapi2.T
	if err := json.Unmarshal(wrapped, &v2); err != nil {
		return nil, fmt.Errorf("read the Swagger document: %w", err)
	}
	v3, err := openapi2conv.ToV3(&v2)
	if err != nil {
		return nil, fmt.Errorf("convert to OpenAPI 3: %w", err)
	}
	return v3, nil
}

// wrapReferences moves a reference that has a description beside it into an
// allOf: anything beside a reference is ignored by the standard.
func wrapReferences(node any) any {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			node[key] = wrapReferences(value)
		}
		reference, isReference := node["$ref"].(string)
		description, described := node["description"].(string)
		if isReference && described {
			return map[string]any{
				"allOf":       []any{map[string]any{"$ref": reference}},
				"description": description,
			}
		}
		return node
	case []any:
		for i, value := range node {
			node[i] = wrapReferences(value)
		}
		return node
	default:
		return node
	}
}

// introduce fills in what holds for the whole document.
func introduce(doc *openapi3.T) {
	doc.Info = &openapi3.Info{
		Title:   "DataGuardian",
		Version: "v1",
		Description: "The REST interface of DataGuardian, the control plane for database backups. " +
			"The same services are there over gRPC.\n\n" +
			"Names are snake_case. A value that is absent is null and never left out; lists are never null. " +
			"Times are RFC 3339 in UTC. 64-bit integers are strings on output, and strings or numbers on input. " +
			"Unknown fields are refused.",
	}
	doc.Servers = openapi3.Servers{{URL: "/", Description: "The server that sent this document."}}
	doc.Components.SecuritySchemes = openapi3.SecuritySchemes{
		"token": {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer").
			WithDescription("An API token.")},
		"session": {Value: openapi3.NewSecurityScheme().WithType("apiKey").WithIn("cookie").WithName("dg_session").
			WithDescription("The session that a login starts.")},
	}
	doc.Security = openapi3.SecurityRequirements{{"token": {}}, {"session": {}}}
	doc.Components.Schemas["Error"] = openapi3.NewSchemaRef("", errorSchema())
	doc.Components.Responses = openapi3.ResponseBodies{
		"Error": {Value: jsonResponse("An error.", &openapi3.SchemaRef{Ref: schemaPrefix + "Error"})},
	}
	doc.Paths.Set("/health", plainPath("Says that the process answers; needs no credential.", "Liveness", "application/json"))
	doc.Paths.Set("/metrics", plainPath("Metrics in Prometheus' text format.", "Metrics", "text/plain"))
}

// errorSchema is the body of every answer that is not a success.
func errorSchema() *openapi3.Schema {
	code := openapi3.NewStringSchema()
	code.Description = "A stable code for programs, such as VALIDATION_ERROR."
	message := openapi3.NewStringSchema()
	message.Description = "One sentence for a person: what happened, what it means, what to do next."
	details := openapi3.NewObjectSchema().WithNullable()
	details.Description = `More for programs; validation errors list every bad field under "fields".`
	schema := openapi3.NewObjectSchema().
		WithProperty("error", code).
		WithProperty("message", message).
		WithProperty("details", details)
	schema.Required = []string{"error", "message", "details"}
	schema.Description = "Error is the body of every answer that is not a success."
	return schema
}

// plainPath is a GET path that no RPC stands behind.
func plainPath(summary, id, contentType string) *openapi3.PathItem {
	body := openapi3.NewStringSchema()
	if contentType == "application/json" {
		body = openapi3.NewObjectSchema()
	}
	response := openapi3.NewResponse().WithDescription("Success.").
		WithContent(openapi3.NewContentWithSchema(body, []string{contentType}))
	operation := openapi3.NewOperation()
	operation.Summary = summary
	operation.OperationID = id
	operation.Tags = []string{"Operations"}
	operation.Responses = openapi3.NewResponses(openapi3.WithStatus(200, &openapi3.ResponseRef{Value: response}))
	operation.Security = openapi3.NewSecurityRequirements()
	return &openapi3.PathItem{Get: operation}
}

func jsonResponse(description string, schema *openapi3.SchemaRef) *openapi3.Response {
	return openapi3.NewResponse().WithDescription(description).
		WithContent(openapi3.NewContentWithJSONSchemaRef(schema))
}

// prune removes the schemas that no path refers to, directly or through others.
func prune(doc *openapi3.T) error {
	references := regexp.MustCompile(`"` + schemaPrefix + `([^"]+)"`)
	used := map[string]bool{}
	var follow func(node json.Marshaler) error
	follow = func(node json.Marshaler) error {
		text, err := node.MarshalJSON()
		if err != nil {
			return fmt.Errorf("look for unused schemas: %w", err)
		}
		for _, match := range references.FindAllSubmatch(text, -1) {
			name := string(match[1])
			if used[name] {
				continue
			}
			used[name] = true
			schema, found := doc.Components.Schemas[name]
			if !found {
				return fmt.Errorf("schema %s is referred to and not there", name)
			}
			if err := follow(schema); err != nil {
				return err
			}
		}
		return nil
	}
	if err := follow(doc.Paths); err != nil {
		return err
	}
	for _, response := range doc.Components.Responses {
		if err := follow(response); err != nil {
			return err
		}
	}
	for name := range doc.Components.Schemas {
		if !used[name] {
			delete(doc.Components.Schemas, name)
		}
	}
	return nil
}
