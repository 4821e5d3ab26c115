// Package docs holds the documents that the server hands out itself.
package docs

import _ "embed"

//go:embed openapi.json
var openAPI []byte

// OpenAPI returns the OpenAPI 3 document of the REST API, which callers must not
// change.
func OpenAPI() []byte { return openAPI }
