package artifact

import (
	"context"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// Whole reports whether a whole artifact lies at path: its manifest is as it was written
// and all its parts are there in their sizes. Their bytes are not read. What a newer
// program wrote counts as whole: it is not for this one to judge. An error says nothing
// of the artifact.
func Whole(ctx context.Context, d storage.Driver, path string) (bool, error) {
	m, err := OpenManifest(ctx, d, path)
	switch {
	case err == nil:
	case errs.CodeOf(err) == errs.CodeArtifactTooNew:
		return true, nil
	case errs.CodeOf(err) == errs.CodeArtifactCorrupt, errs.KindOf(err) == errs.NotFound:
		return false, nil
	default:
		return false, err
	}
	sizes := map[string]int64{}
	for o, err := range d.List(ctx, path+"/") {
		if err != nil {
			return false, readFailure(err, "looking for the parts of the backup")
		}
		sizes[o.Key] = o.Size
	}
	for _, p := range m.AllParts(path) {
		if size, ok := sizes[p.Key]; !ok || size != p.Size {
			return false, nil
		}
	}
	return true, nil
}
