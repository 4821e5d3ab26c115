package query

import (
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// Schemas gathers columns that come in the order of schemas and relations.
type Schemas struct {
	all     []engine.Schema
	columns int
}

// NewSchemas begins without any.
func NewSchemas() *Schemas { return &Schemas{all: []engine.Schema{}} }

// Add takes one row: a schema, a relation in it unless nil, and a column of that
// if it has one. It fails beyond engine.MaxColumns columns.
func (s *Schemas) Add(schema string, relation *string, has bool, c engine.Column) error {
	if len(s.all) == 0 || s.all[len(s.all)-1].Name != Text(schema) {
		s.all = append(s.all, engine.Schema{Name: Text(schema), Tables: []engine.Relation{}})
	}
	last := &s.all[len(s.all)-1]
	if relation == nil {
		return nil
	}
	if len(last.Tables) == 0 || last.Tables[len(last.Tables)-1].Name != Text(*relation) {
		last.Tables = append(last.Tables, engine.Relation{Name: Text(*relation), Columns: []engine.Column{}})
	}
	if !has {
		return nil
	}
	if s.columns++; s.columns > engine.MaxColumns {
		return errs.New(errs.Exhausted, errs.CodePayloadTooLarge,
			"the database has more than %d columns, which is more than can be shown at once; query its information_schema instead", engine.MaxColumns)
	}
	table := &last.Tables[len(last.Tables)-1]
	table.Columns = append(table.Columns, engine.Column{
		Name: Text(c.Name), Type: Text(c.Type), Nullable: c.Nullable, PrimaryKey: c.PrimaryKey, Unique: c.Unique,
		ForeignKey: textOrNil(c.ForeignKey), Default: textOrNil(c.Default),
	})
	return nil
}

func textOrNil(text *string) *string {
	if text == nil {
		return nil
	}
	valid := Text(*text)
	return &valid
}

// All returns what was gathered.
func (s *Schemas) All() []engine.Schema { return s.all }
