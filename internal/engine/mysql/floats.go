package mysql

import "context"

// warnOfFloats tells of columns whose values the servers write with six significant
// digits (FLT_DIG), where FLOAT has up to nine: every client sees 16777200 for 16777216,
// and so does the tool. Values of FLOAT(M,D) were rounded when they were stored, and
// those of DOUBLE are written whole.
func (d *dump) warnOfFloats(ctx context.Context, s *session) error {
	short, err := d.columns(ctx, s, "data_type = 'float' AND numeric_scale IS NULL")
	if err != nil {
		return err
	}
	if len(short) > 0 {
		d.warn("the server writes values of FLOAT with six digits, and so does the dump (16777200 for 16777216): where that is too few, make these columns DOUBLE, which keeps every value as it is: " + listed(short))
	}
	return nil
}
