package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// selectionList is a part of an archive. A nil list is the whole.
type selectionList struct {
	entries []*archive.Entry // in the archive's order
	ids     map[int]bool
	leftOut []string // foreign keys to tables that are not restored
}

func (l *selectionList) has(e *archive.Entry) bool { return l == nil || l.ids[e.DumpID] }

// write makes the file that pg_restore's --use-list reads: a dump id a line.
func (l *selectionList) write(dir string) (string, error) {
	var b strings.Builder
	for _, e := range l.entries {
		fmt.Fprintf(&b, "%d;\n", e.DumpID)
	}
	file := filepath.Join(dir, "list")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return "", errs.Wrap(err, errs.Internal, errs.CodeInternal, "the list of tables could not be written to the temporary directory")
	}
	return file, nil
}

// isRelation reports whether entries of that kind can be asked for by name.
func isRelation(desc string) bool {
	return slices.Contains([]string{"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE"}, desc)
}

// belongs reports whether entries of that kind are parts of what they depend
// on.
func belongs(desc string) bool {
	return slices.Contains([]string{
		"TABLE DATA", "MATERIALIZED VIEW DATA", "DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH",
		"TABLE ATTACH", "TRIGGER", "RULE", "POLICY", "ROW SECURITY", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET",
		"COMMENT", "ACL", "SECURITY LABEL", "STATISTICS", "STATISTICS DATA",
	}, desc)
}

// chooser finds the part of an archive that belongs to some relations.
type chooser struct {
	entries []*archive.Entry
	byID    map[int]*archive.Entry
	chosen  map[int]bool
}

// choose returns what the named relations need. Into a fresh database also
// comes what they refer to: schemas, types, functions.
func choose(entries []*archive.Entry, names []string, fresh bool) (*selectionList, error) {
	c := chooser{entries: entries, byID: map[int]*archive.Entry{}, chosen: map[int]bool{}}
	for _, e := range entries {
		c.byID[e.DumpID] = e
		if slices.Contains([]string{"ENCODING", "STDSTRINGS", "SEARCHPATH"}, e.Desc) {
			c.chosen[e.DumpID] = true
		}
	}
	for _, name := range names {
		e, err := c.find(name)
		if err != nil {
			return nil, err
		}
		c.chosen[e.DumpID] = true
	}
	for c.grow() {
	}
	l := &selectionList{ids: c.chosen, leftOut: c.danglingKeys()}
	if fresh {
		c.addNeeds()
	}
	for _, e := range entries {
		if c.chosen[e.DumpID] {
			l.entries = append(l.entries, e)
		}
	}
	return l, nil
}

// find takes "schema.name", then "name" in the schema public, then "name" where
// only one schema has it.
func (c *chooser) find(name string) (*archive.Entry, error) {
	var byTag []*archive.Entry
	for _, e := range c.entries {
		if !isRelation(e.Desc) {
			continue
		}
		if e.Name() == name {
			return e, nil
		}
		if e.Tag == name {
			byTag = append(byTag, e)
		}
	}
	if i := slices.IndexFunc(byTag, func(e *archive.Entry) bool { return e.Namespace == "public" }); i >= 0 {
		return byTag[i], nil
	}
	switch len(byTag) {
	case 0:
		return nil, errs.New(errs.Invalid, errs.CodeRestoreFailed, "the backup has no table %q of include_tables", name)
	case 1:
		return byTag[0], nil
	}
	return nil, errs.New(errs.Invalid, errs.CodeRestoreFailed, "the backup has table %q of include_tables in several schemas: write schema.table", name)
}

// grow adds what belongs to what is chosen, and tells whether there was any.
func (c *chooser) grow() (grew bool) {
	add := func(id int) {
		if !c.chosen[id] {
			c.chosen[id], grew = true, true
		}
	}
	for _, e := range c.entries {
		if c.chosen[e.DumpID] || !belongs(e.Desc) && !e.Attaches || !slices.ContainsFunc(e.Dependencies, func(id int) bool { return c.chosen[id] }) {
			continue
		}
		switch e.Desc {
		case "FK CONSTRAINT":
			if c.hasAllTables(e) {
				add(e.DumpID)
			}
		case "SEQUENCE OWNED BY":
			if c.ownerChosen(e) {
				add(e.DumpID)
			}
		case "TABLE ATTACH": // it brings the partition
			add(e.DumpID)
			for _, id := range e.Dependencies {
				if d := c.byID[id]; d != nil && isRelation(d.Desc) {
					add(id)
				}
			}
		default:
			add(e.DumpID)
		}
	}
	return grew
}

func (c *chooser) hasTable(e *archive.Entry) bool {
	return slices.ContainsFunc(e.Dependencies, func(id int) bool {
		return c.chosen[id] && c.byID[id] != nil && c.byID[id].Desc == "TABLE"
	})
}

// ownerChosen tells of a "SEQUENCE OWNED BY" whether the table is chosen. Some
// versions of pg_dump note the table at the sequence only.
func (c *chooser) ownerChosen(e *archive.Entry) bool {
	return c.hasTable(e) || slices.ContainsFunc(e.Dependencies, func(id int) bool {
		d := c.byID[id]
		return d != nil && d.Desc == "SEQUENCE" && c.hasTable(d)
	})
}

func (c *chooser) hasAllTables(e *archive.Entry) bool {
	return !slices.ContainsFunc(e.Dependencies, func(id int) bool {
		d := c.byID[id]
		return d != nil && !c.chosen[id] && slices.Contains([]string{"TABLE", "CONSTRAINT", "INDEX"}, d.Desc)
	})
}

// danglingKeys names the foreign keys of chosen tables that were not chosen.
func (c *chooser) danglingKeys() (names []string) {
	for _, e := range c.entries {
		if e.Desc == "FK CONSTRAINT" && !c.chosen[e.DumpID] && c.hasTable(e) {
			names = append(names, e.Name())
		}
	}
	return names
}

// addNeeds adds what chosen entries depend on, and so on.
func (c *chooser) addNeeds() {
	var open []int
	for id := range c.chosen {
		open = append(open, id)
	}
	for len(open) > 0 {
		e := c.byID[open[len(open)-1]]
		open = open[:len(open)-1]
		for _, id := range e.Dependencies {
			if c.byID[id] != nil && !c.chosen[id] {
				c.chosen[id] = true
				open = append(open, id)
			}
		}
	}
}
