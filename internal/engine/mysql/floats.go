package mysql

import (
	"context"
	"slices"
)

// warnOfFloats tells of columns whose values the servers write with six significant
// digits (FLT_DIG), where FLOAT has up to nine: every client sees 16777200 for 16777216,
// and so does the tool. Values of FLOAT(M,D) were rounded when they were stored, and
// those of DOUBLE are written whole.
func (d *dump) warnOfFloats(ctx context.Context, s *session) error {
	columns, err := s.pairs(ctx, `SELECT table_name, concat(table_name, '.', column_name) FROM information_schema.columns
		WHERE table_schema = ? AND data_type = 'float' AND numeric_scale IS NULL ORDER BY table_name, ordinal_position`, d.conn.Database)
	if err != nil {
		return err
	}
	var short []string
	for _, c := range columns {
		if slices.ContainsFunc(d.selection.full, func(t table) bool { return t.name == c[0] && !t.view }) {
			short = append(short, c[1])
		}
	}
	if len(short) > 0 {
		d.warn("the server writes values of FLOAT with six digits, and so does the dump (16777200 for 16777216): where that is too few, make these columns DOUBLE, which keeps every value as it is: " + listed(short))
	}
	return nil
}
