// Package migrations holds the schema, one file per step, in goose's format. A
// step that was released never changes.
package migrations

import "embed"

// Files are the steps.
//
//go:embed *.sql
var Files embed.FS
