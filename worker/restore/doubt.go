package restore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/engine"
)

// doubtTables tells, before the work begins, which of include_tables the manifest does
// not know as a table. It may be a view, which the dump alone knows, so it is no
// error yet.
func (r *run) doubtTables(m artifact.Manifest) {
	if len(m.Tables) == 0 {
		return
	}
	for _, name := range r.request.IncludeTables {
		known := func(t artifact.ManifestTable) bool {
			return slices.Contains([]string{t.Name, t.Schema + "." + t.Name, r.conn().Database + "." + t.Name}, name)
		}
		if slices.ContainsFunc(m.Tables, known) {
			continue
		}
		advice := ""
		if like := nearest(name, m.Tables); like != "" {
			advice = fmt.Sprintf(" Was %q meant?", like)
		}
		r.Log.Logf(engine.LevelWarn, "%q of include_tables is no table of this backup; unless it is a view or a sequence, the restore will fail for it, with nothing changed.%s", name, advice)
	}
}

// nearest is the table whose name differs in the fewest letters; empty when all
// differ in many.
func nearest(name string, tables []artifact.ManifestTable) (like string) {
	best := len(name)/3 + 2
	for _, t := range tables {
		for _, candidate := range []string{t.Name, t.Schema + "." + t.Name} {
			if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < best {
				best, like = d, strings.TrimPrefix(candidate, ".")
			}
		}
	}
	return like
}

// distance is how many letters differ between two names (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
