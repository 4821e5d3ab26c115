package postgres

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// toolbox finds the tools of all installed versions.
type toolbox struct {
	dirs []string // empty means the usual places
}

// program is an installed tool.
type program struct {
	name    string
	path    string
	version string // e.g. "15.18"
	major   int
}

// directories returns where to look, best first.
func (b toolbox) directories() []string {
	if len(b.dirs) > 0 {
		return b.dirs
	}
	return usualPlaces()
}

// usualPlaces are where packages put the tools, then the directories of PATH. Tests
// run with the tools of other versions exchange it.
var usualPlaces = func() (dirs []string) {
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin"} {
		found, err := filepath.Glob(pattern)
		if err == nil { // only a bad pattern is an error
			dirs = append(dirs, found...)
		}
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// installed returns the usable programs of that name, oldest first; or only one
// of the release best, as soon as one is found: asking a program for its version
// takes time, and much where a script stands before it.
func (b toolbox) installed(ctx context.Context, name string, best int) []program {
	var found []program
	for _, dir := range b.directories() {
		path := filepath.Join(dir, name)
		if !tool.IsExecutable(path) {
			continue
		}
		line, err := tool.VersionLine(ctx, path, "--version")
		if err != nil {
			continue // what does not answer is not there
		}
		version, major := parseVersion(line)
		if major == best {
			return []program{{name: name, path: path, version: version, major: major}}
		}
		known := slices.ContainsFunc(found, func(p program) bool { return p.version == version })
		if major > 0 && !known {
			found = append(found, program{name: name, path: path, version: version, major: major})
		}
	}
	slices.SortStableFunc(found, func(a, b program) int { return cmp.Compare(a.major, b.major) })
	return found
}

// parseVersion reads "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0)".
func parseVersion(line string) (version string, major int) {
	m := regexp.MustCompile(`\(PostgreSQL\) ((\d+)\S*)`).FindStringSubmatch(line)
	if m == nil {
		return "", 0
	}
	major, err := strconv.Atoi(m[2])
	if err != nil {
		return "", 0
	}
	return m[1], major
}

// chooseDump returns the pg_dump of exactly the wanted major version, else the oldest
// of the newer ones.
func (b toolbox) chooseDump(ctx context.Context, major int) (program, error) {
	found := b.installed(ctx, "pg_dump", major)
	if err := ctx.Err(); err != nil {
		return program{}, ended(ctx)
	}
	for _, p := range found {
		if p.major >= major {
			return p, nil
		}
	}
	return program{}, b.unfit("pg_dump", found, major)
}

// chooseRestore returns the pg_restore of the server's own version if it can
// read the archive, which takes version oldest; else the newest older one that
// can, for its statements are understood; else the oldest newer one.
func (b toolbox) chooseRestore(ctx context.Context, server, oldest int) (program, error) {
	found := b.installed(ctx, "pg_restore", max(server, oldest))
	if err := ctx.Err(); err != nil {
		return program{}, ended(ctx)
	}
	best := program{}
	for _, p := range found {
		if p.major >= oldest && (p.major <= server || best.major == 0) {
			best = p
		}
	}
	switch {
	case best.major == 0:
		return program{}, b.unfit("pg_restore", found, max(server, oldest))
	case best.tooNewFor(server):
		return program{}, best.refused(server, oldest)
	}
	return best, nil
}

// timeoutMajor is the release since which pg_restore begins whatever it writes with
// "SET transaction_timeout": servers before it refuse that.
const timeoutMajor = 17

// tooNewFor tells whether what p writes is refused by a server of that release.
func (p program) tooNewFor(server int) bool { return p.major >= timeoutMajor && server < timeoutMajor }

func (p program) refused(server, oldest int) error {
	if oldest >= timeoutMajor {
		return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
			"the backup was made by pg_dump %d or newer, and the target is PostgreSQL %d, which does not know a setting that such backups come back with: restore it into PostgreSQL %d or newer",
			oldest, server, timeoutMajor)
	}
	return errs.New(errs.Unavailable, errs.CodeDumpToolMissing,
		"%s cannot restore into PostgreSQL %d, which does not know a setting that it begins with: install the matching one with `apt-get install postgresql-client-%d`",
		p, server, server)
}

// unfit says what to install.
func (b toolbox) unfit(name string, found []program, major int) error {
	if len(found) == 0 {
		return errs.New(errs.Unavailable, errs.CodeDumpToolMissing,
			"no %s is installed (looked in %s), and PostgreSQL %d needs one: install it with `apt-get install postgresql-client-%d`",
			name, strings.Join(b.directories(), ", "), major, major)
	}
	var versions []string
	for _, p := range found {
		versions = append(versions, p.version)
	}
	return errs.New(errs.Unavailable, errs.CodeDumpToolTooOld,
		"the installed %s is too old (%s) for PostgreSQL %d: install the matching one with `apt-get install postgresql-client-%d`",
		name, strings.Join(versions, ", "), major, major)
}

func (p program) String() string { return fmt.Sprintf("%s %s", p.name, p.version) }
