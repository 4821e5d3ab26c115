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
	p := &b.like
	if err := json.Unmarshal(text, p); err != nil {
		return errs.Wrap(err, errs.Internal, errs.CodeInternal, "the database's properties were not understood")
	}
	o := p.options()
	err := b.exec(ctx, "CREATE DATABASE %I TEMPLATE template0"+o.format, append([]string{b.fresh}, o.args...)...)
	if err := b.createError(ctx, err); err != nil {
		return err
	}
	return b.copyProperties(ctx)
}

func (p *properties) options() (o sqlOptions) {
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

// copyProperties: who may connect must be right when the fresh database has its place, so
// whether the grants can be copied is tried; a setting or a comment that cannot be copied
// is reported.
func (b *beside) copyProperties(ctx context.Context) error {
	tx, err := b.conn.Begin(ctx)
	if err != nil {
		return b.failed(ctx, err, "copying the database's grants")
	}
	if err := also(b.open(ctx, tx, b.fresh), tx.Rollback(ctx)); err != nil {
		return err
	}
	p := b.like
	if p.Comment != "" {
		b.attempt("the database's comment", b.exec(ctx, "COMMENT ON DATABASE %I IS %L", b.fresh, p.Comment))
	}
	return b.copySettings(ctx, p.OID)
}

func (b *beside) attempt(what string, err error) {
	if err != nil {
		b.restore.log(engine.LevelWarn, fmt.Sprintf("%s could not be copied: %s", what, reason(err)))
	}
}

// shut keeps others out of the fresh database until it has its place: a session of theirs
// would keep it from that. Superusers get in all the same. A user who is let in only by
// what all are granted, though another role's settings made the database, is let in alone.
func (b *beside) shut(ctx context.Context) error {
	err := b.exec(ctx, "REVOKE CONNECT ON DATABASE %I FROM PUBLIC", b.fresh)
	var login string
	var enters bool
	if err == nil {
		err = b.conn.QueryRow(ctx, "SELECT session_user, has_database_privilege(session_user, $1, 'CONNECT')", b.fresh).Scan(&login, &enters)
	}
	if err == nil && !enters {
		b.admitted = login
		err = b.exec(ctx, "GRANT CONNECT ON DATABASE %I TO %I", b.fresh, login)
	}
	if err != nil {
		return b.failed(ctx, err, "keeping others out of the database to restore into")
	}
	return nil
}

// open grants what the database that the fresh one will be grants: of one that is new,
// that everybody may connect.
func (b *beside) open(ctx context.Context, tx pgx.Tx, database string) error {
	var err error
	if b.admitted != "" {
		err = execFormat(ctx, tx, "REVOKE CONNECT ON DATABASE %I FROM %I", database, b.admitted)
	}
	switch {
	case err != nil:
	case b.like.HasACL:
		err = copyGrants(ctx, tx, b.like, database)
	default:
		err = execFormat(ctx, tx, "GRANT CONNECT ON DATABASE %I TO PUBLIC", database)
	}
	if err != nil {
		return b.failed(ctx, err, "copying the database's grants")
	}
	return nil
}

// reread notes whose the old database is and whether it has grants, as its last: both may
// have changed since the fresh one was made, which then becomes the new owner's.
func (b *beside) reread(ctx context.Context, tx pgx.Tx, held string) error {
	var owner string // of the fresh one
	err := tx.QueryRow(ctx, `SELECT pg_get_userbyid(old.datdba), old.datacl IS NOT NULL, pg_get_userbyid(fresh.datdba)
		FROM pg_database old, pg_database fresh WHERE old.oid::int8 = $1 AND fresh.oid::int8 = $2`, int64(b.like.OID), int64(b.oid)).
		Scan(&b.like.Owner, &b.like.HasACL, &owner)
	if err == nil && b.like.Owner != owner {
		err = execFormat(ctx, tx, "ALTER DATABASE %I OWNER TO %I", held, b.like.Owner)
	}
	if err != nil {
		return b.failed(ctx, err, "reading the database's grants")
	}
	return nil
}

func copyGrants(ctx context.Context, tx pgx.Tx, p properties, database string) error {
	rows, err := tx.Query(ctx, `
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
	if err := execFormat(ctx, tx, "REVOKE ALL ON DATABASE %I FROM PUBLIC, %I", database, p.Owner); err != nil {
		return err
	}
	for _, g := range grants {
		to, args := "PUBLIC", []string{database}
		if g.grantee != "" {
			to, args = "%I", append(args, g.grantee)
		}
		if g.grantable {
			to += " WITH GRANT OPTION"
		}
		if err := execFormat(ctx, tx, "GRANT "+g.privilege+" ON DATABASE %I TO "+to, args...); err != nil {
			return err
		}
	}
	return nil
}

// copySettings copies ALTER DATABASE ... SET and ALTER ROLE ... IN DATABASE.
func (b *beside) copySettings(ctx context.Context, of uint32) error {
	rows, err := b.conn.Query(ctx, `
		SELECT CASE WHEN s.setrole = 0 THEN '' ELSE pg_get_userbyid(s.setrole) END, unnest(s.setconfig)
		FROM pg_db_role_setting s WHERE s.setdatabase::int8 = $1`, int64(of))
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
