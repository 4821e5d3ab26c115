// Package storagetest holds what tests of storage drivers share: the
// conformance suite every driver passes, a driver wrapper that injects faults,
// and the object store servers tests run against.
package storagetest

import (
	"testing"

	"github.com/dataguardian/dataguardian/storage"
)

// Options describe the driver under test.
type Options struct {
	// New returns a driver over a place of its own that is empty. The suite
	// closes it.
	New func(t *testing.T) storage.Driver
	// Leftovers returns a name for everything that lies in d's place without
	// being an object: temporary files, open multipart uploads.
	Leftovers func(t *testing.T, d storage.Driver) []string
	// PartSize is the size from which the driver cuts a body, 0 when it does
	// not. The suite writes bodies around its multiples.
	PartSize int64
}

// Run proves that a driver keeps the contract of storage.Driver.
func Run(t *testing.T, o Options) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, fixture)
	}{
		{"an object comes back as it was stored", roundTrips},
		{"bodies of every size come back whole", sizes},
		{"the announced size and digest are enforced", mismatches},
		{"a body that fails midway leaves nothing", failingBodies},
		{"a body that fails midway keeps the object it would replace", failingReplacement},
		{"a write whose context ends leaves nothing", cancelledWrites},
		{"a write replaces the object under its key", replaces},
		{"an exclusive write never replaces", exclusive},
		{"one of many exclusive writes of a key wins", exclusiveRace},
		{"ranges are exact", ranges},
		{"reading beyond the end never ends cleanly", beyondTheEnd},
		{"a read whose context ends fails", cancelledReads},
		{"an absent object is told apart", absent},
		{"deleting is final and repeatable", deletes},
		{"odd keys are kept apart and come back unchanged", oddKeys},
		{"keys that mean something else elsewhere are refused", badKeys},
		{"an object below another one is refused or kept apart", nestedKeys},
		{"lists are complete and in key order", lists},
		{"a list of thousands of objects is complete", longLists},
		{"a list ends when its reader or context does", stoppedLists},
		{"a folder shows what lies directly in it", folders},
		{"a folder is its list, collapsed", collapsedFolders},
		{"a folder of thousands of entries is complete", largeFolders},
		{"writes at the same time do not disturb each other", concurrentWrites},
		{"writes and deletes in one folder do not disturb each other", churn},
		{"every call respects an ended context", endedContext},
		{"a sweep leaves objects alone", sweeps},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := o.New(t)
			f := fixture{Driver: d, options: o}
			t.Cleanup(func() {
				f.requireNoLeftovers(t)
				if err := d.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			c.run(t, f)
		})
	}
}
