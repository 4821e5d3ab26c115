// Command openapi makes the REST reference, an OpenAPI 3 document.
//
// protoc-gen-openapiv2 knows paths, fields and their comments, but not what our
// gateway does on top: its statuses, its error body, its streams, which fields
// are null instead of absent, and who may call what. That is added here from the
// same descriptors and the same status table the server uses.
//
//	openapi SWAGGER.json OPENAPI.json
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/getkin/kin-openapi/openapi3"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: openapi SWAGGER.json OPENAPI.json")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

// run reads the Swagger 2 document at from and writes the finished one to target.
func run(from, target string) error {
	swagger, err := os.ReadFile(from) //nolint:gosec // the caller names its own files
	if err != nil {
		return fmt.Errorf("read the Swagger document: %w", err)
	}
	reference, err := build(swagger)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil { //nolint:gosec // the caller names its own files
		return fmt.Errorf("create the directory of %s: %w", target, err)
	}
	if err := os.WriteFile(target, reference, 0o600); err != nil { //nolint:gosec // the caller names its own files
		return fmt.Errorf("write the reference: %w", err)
	}
	return nil
}

// build makes the document; the same input gives the same bytes.
func build(swagger []byte) ([]byte, error) {
	doc, err := convert(swagger)
	if err != nil {
		return nil, err
	}
	introduce(doc)
	described, err := describeOperations(doc)
	if err != nil {
		return nil, err
	}
	if err := described.describeSchemas(doc); err != nil {
		return nil, err
	}
	if err := prune(doc); err != nil {
		return nil, err
	}
	return encode(doc)
}

// encode writes the document with sorted keys, and refuses one that is not valid.
func encode(doc *openapi3.T) ([]byte, error) {
	compact, err := doc.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode the reference: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, fmt.Errorf("indent the reference: %w", err)
	}
	out.WriteByte('\n')
	read, err := openapi3.NewLoader().LoadFromData(out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("read the reference back: %w", err)
	}
	if err := read.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("the reference is not valid OpenAPI: %w", err)
	}
	return out.Bytes(), nil
}
