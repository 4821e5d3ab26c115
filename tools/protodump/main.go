// Command protodump writes the third-party .proto files our API imports.
//
// Their Go packages carry the descriptors, so the files can be printed from what
// we link instead of being fetched from a schema registry. The result is
// committed; run it again after one of these modules was upgraded:
//
//	make third-party
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// source is a descriptor and where it comes from, for the header of the printed file.
type source struct {
	file   protoreflect.FileDescriptor
	origin string
}

func sources() []source {
	const (
		google = "Copyright Google LLC, Apache License 2.0, https://github.com/googleapis/googleapis"
		buf    = "Copyright Buf Technologies, Inc., Apache License 2.0, https://github.com/bufbuild/protovalidate"
	)
	return []source{
		{annotations.File_google_api_annotations_proto, google},
		{annotations.File_google_api_http_proto, google},
		{httpbody.File_google_api_httpbody_proto, google},
		{validate.File_buf_validate_validate_proto, buf},
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: protodump DIRECTORY")
		os.Exit(2)
	}
	for _, s := range sources() {
		if err := write(os.Args[1], s); err != nil {
			fmt.Fprintln(os.Stderr, "protodump:", err)
			os.Exit(1)
		}
	}
}

// write prints one descriptor below dir, at the path its importers use.
func write(dir string, s source) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "// Printed from Go descriptors by tools/protodump. DO NOT EDIT.\n// %s\n\n", s.origin)
	printer := protoprint.Printer{Indent: "  ", SortElements: false}
	if err := printer.PrintProtoFile(s.file, &out); err != nil {
		return fmt.Errorf("print %s: %w", s.file.Path(), err)
	}
	target := filepath.Join(dir, filepath.FromSlash(s.file.Path()))
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("create the directory of %s: %w", target, err)
	}
	if err := os.WriteFile(target, out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	return nil
}
