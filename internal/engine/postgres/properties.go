package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// properties is a row of pg_database; which columns there are depends on the
// server's version.
type properties struct {
	Owner      string `json:"owner"`
	Encoding   string `json:"encoding_name"`
	Tablespace string `json:"tablespace_name"`
	Default    string `json:"default_tablespace"` // where a database goes that names none
	Collate    string `json:"datcollate"`
	Ctype      string `json:"datctype"`
	Provider   string `json:"datlocprovider"` // since 15: c, i, b
	ICULocale  string `json:"daticulocale"`   // 15 and 16
	Locale     string `json:"datlocale"`      // since 17
	ICURules   string `json:"daticurules"`    // since 16
	ConnLimit  int    `json:"datconnlimit"`
	Comment    string `json:"comment"`
	OID        uint32 `json:"oid"`
	HasACL     bool   `json:"has_acl"`
}

const readProperties = `
SELECT to_jsonb(d) - 'datacl' || jsonb_build_object(
	'owner', pg_get_userbyid(d.datdba), 'encoding_name', pg_encoding_to_char(d.encoding), 'oid', d.oid::int8,
	'tablespace_name', (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace),
	'default_tablespace', (SELECT spcname FROM pg_tablespace t JOIN pg_database z ON z.dattablespace = t.oid WHERE z.datname = 'template0'),
	'comment', shobj_description(d.oid, 'pg_database'), 'has_acl', d.datacl IS NOT NULL)
FROM pg_database d WHERE d.datname = $1`

// createLikeTarget makes the fresh database with everything that belongs to
// the old one itself and not to its content.
func (b *beside) createLikeTarget(ctx context.Context) error {
	var text []byte
	if err := b.conn.QueryRow(ctx, readProperties, b.restore.conn.Database).Scan(&text); err != nil {
		return b.failed(ctx, err, "reading the database's properties")
	}
	var p properties
	if err := json.Unmarshal(text, &p); err != nil {
		return errs.Wrap(err, errs.Internal, errs.CodeInternal, "the database's properties were not understood")
	}
	o := p.options()
	err := b.exec(ctx, "CREATE DATABASE %I TEMPLATE template0"+o.format, append([]string{b.fresh}, o.args...)...)
	if err := b.createError(ctx, err); err != nil {
		return err
	}
	return b.copyProperties(ctx, p)
}

func (p properties) options() (o sqlOptions) {
	o.add("OWNER %I", p.Owner)
	o.add("ENCODING %L", p.Encoding)
	o.add("LC_COLLATE %L", p.Collate)
	o.add("LC_CTYPE %L", p.Ctype)
	switch p.Provider {
	case "i":
		o.add("LOCALE_PROVIDER icu ICU_LOCALE %L", p.ICULocale+p.Locale)
		if p.ICURules != "" {
			o.add("ICU_RULES %L", p.ICURules)
		}
	case "b":
		o.add("LOCALE_PROVIDER builtin BUILTIN_LOCALE %L", p.Locale)
	}
	if p.Tablespace != p.Default { // to name even the default asks for a right that owners of databases mostly lack
		o.add("TABLESPACE %I", p.Tablespace)
	}
	o.add("CONNECTION LIMIT " + strconv.Itoa(p.ConnLimit))
	return o
}

// copyProperties: who may connect must be right; a setting or a comment that
// cannot be copied is reported.
func (b *beside) copyProperties(ctx context.Context, p properties) error {
	if p.HasACL {
		if err := b.copyGrants(ctx, p); err != nil {
			return b.failed(ctx, err, "copying the database's grants")
		}
	}
	if p.Comment != "" {
		b.attempt("the database's comment", b.exec(ctx, "COMMENT ON DATABASE %I IS %L", b.fresh, p.Comment))
	}
	return b.copySettings(ctx, p)
}

func (b *beside) attempt(what string, err error) {
	if err != nil {
		b.restore.log(engine.LevelWarn, fmt.Sprintf("%s could not be copied: %s", what, reason(err)))
	}
}

func (b *beside) copyGrants(ctx context.Context, p properties) error {
	rows, err := b.conn.Query(ctx, `
		SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable
		FROM pg_database d, aclexplode(d.datacl) a WHERE d.oid::int8 = $1`, int64(p.OID))
	if err != nil {
		return err
	}
	type grant struct {
		grantee, privilege string
		grantable          bool
	}
	grants, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g grant, err error) {
		return g, row.Scan(&g.grantee, &g.privilege, &g.grantable)
	})
	if err != nil {
		return err
	}
	if err := b.exec(ctx, "REVOKE ALL ON DATABASE %I FROM PUBLIC, %I", b.fresh, p.Owner); err != nil {
		return err
	}
	for _, g := range grants {
		to, args := "PUBLIC", []string{b.fresh}
		if g.grantee != "" {
			to, args = "%I", append(args, g.grantee)
		}
		if g.grantable {
			to += " WITH GRANT OPTION"
		}
		if err := b.exec(ctx, "GRANT "+g.privilege+" ON DATABASE %I TO "+to, args...); err != nil {
			return err
		}
	}
	return nil
}

// copySettings copies ALTER DATABASE ... SET and ALTER ROLE ... IN DATABASE.
func (b *beside) copySettings(ctx context.Context, p properties) error {
	rows, err := b.conn.Query(ctx, `
		SELECT CASE WHEN s.setrole = 0 THEN '' ELSE pg_get_userbyid(s.setrole) END, unnest(s.setconfig)
		FROM pg_db_role_setting s WHERE s.setdatabase::int8 = $1`, int64(p.OID))
	if err != nil {
		return b.failed(ctx, err, "reading the database's settings")
	}
	type setting struct{ role, assignment string }
	settings, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s setting, err error) {
		return s, row.Scan(&s.role, &s.assignment)
	})
	if err != nil {
		return b.failed(ctx, err, "reading the database's settings")
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s.assignment, "=")
		b.attempt("the database's setting "+name, b.copySetting(ctx, s.role, name, value))
	}
	return nil
}

// copySetting sets the value for one transaction and lets the server take it
// from there, for the text of a list is not the literal that makes it.
func (b *beside) copySetting(ctx context.Context, role, name, value string) error {
	return pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config($1, $2, true)", name, value); err != nil {
			return err
		}
		parts := strings.Split(name, ".")
		set := " SET " + strings.TrimSuffix(strings.Repeat("%I.", len(parts)), ".") + " FROM CURRENT"
		if role == "" {
			return execFormat(ctx, tx, "ALTER DATABASE %I"+set, append([]string{b.fresh}, parts...)...)
		}
		return execFormat(ctx, tx, "ALTER ROLE %I IN DATABASE %I"+set, append([]string{role, b.fresh}, parts...)...)
	})
}
