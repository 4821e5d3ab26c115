package app

import (
	"context"
	"fmt"

	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
)

// storageTypes are the types that opener can open.
var storageTypes = []location.Type{location.Local}

// opener turns storage locations into drivers.
type opener struct{}

// Open implements location.Opener.
func (opener) Open(_ context.Context, l location.Location) (storage.Driver, error) {
	switch l.Type { //nolint:exhaustive // storageTypes keeps other types out
	case location.Local:
		return openLocal(l.Config)
	default:
		return nil, fmt.Errorf("this server cannot open storage of type %s", l.Type)
	}
}

func openLocal(c location.Config) (storage.Driver, error) {
	path, _ := c["path"].(string)
	limit, _ := c["max_size_gb"].(float64)
	return local.New(local.Config{Path: path, MaxBytes: int64(limit * (1 << 30))})
}
