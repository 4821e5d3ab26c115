package mysql

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// toolbox finds the clients of both servers. A program's name says little:
// `mysqldump` is often MariaDB's.
type toolbox struct {
	dirs []string // empty means the usual places
}

// program is an installed client.
type program struct {
	name    string
	path    string
	flavor  engine.Type
	version string
	num     int // as in engine.ServerInfo
}

func (p program) String() string { return fmt.Sprintf("%s %s", p.name, p.version) }

// Names of the tools, best first.
var (
	dumpNames   = [...]string{"mariadb-dump", "mysqldump"}
	clientNames = [...]string{"mariadb", "mysql"}
)

func (b toolbox) directories() []string {
	if len(b.dirs) > 0 {
		return b.dirs
	}
	return usualPlaces()
}

// usualPlaces are where packages put the clients, then the directories of PATH. Tests
// run with the clients of other versions exchange it.
var usualPlaces = func() []string {
	dirs := []string{"/usr/bin", "/usr/local/bin", "/usr/local/mysql/bin", "/opt/mysql/bin", "/opt/mariadb/bin"}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// choose returns the client of the server's kind and at least its version,
// oldest first; else the newest older one; else the other kind's, see refuseLoss.
func (b toolbox) choose(ctx context.Context, names []string, server engine.ServerInfo) (program, error) {
	var found []program
	for _, dir := range b.directories() {
		for _, name := range names {
			if p, ok := inspect(ctx, filepath.Join(dir, name)); ok {
				found = append(found, p)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return program{}, ended(ctx)
	}
	if len(found) == 0 {
		return program{}, errs.New(errs.Unavailable, errs.CodeDumpToolMissing,
			"no %s is installed (looked in %s), and %s %s needs one: %s",
			strings.Join(names, " or "), strings.Join(b.directories(), ", "), productOf(server.Flavor), server.Version, installation(server.Flavor))
	}
	rank := func(p program) int {
		switch {
		case p.flavor != server.Flavor:
			return 2
		case p.num/100 < server.VersionNum/100:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(found, func(a, c program) int {
		if r := cmp.Compare(rank(a), rank(c)); r != 0 {
			return r
		}
		if rank(a) == 0 {
			return cmp.Compare(a.num, c.num)
		}
		return cmp.Compare(c.num, a.num)
	})
	return found[0], nil
}

// installation says where the clients of a server come from. Debian's packages that are
// called after MySQL's clients are often MariaDB's.
func installation(flavor engine.Type) string {
	if flavor == engine.MariaDB {
		return "install it with `apt-get install mariadb-client`"
	}
	return "install MySQL's own mysqldump and mysql (mysql-client of Ubuntu, or mysql-community-client of MySQL's own repository; Debian's default-mysql-client is MariaDB's)"
}

func inspect(ctx context.Context, path string) (program, bool) {
	if !tool.IsExecutable(path) {
		return program{}, false
	}
	line, err := tool.VersionLine(ctx, path, "--no-defaults", "--version")
	if err != nil {
		return program{}, false // what does not answer is not there
	}
	p := program{name: filepath.Base(path), path: path, flavor: engine.MySQL}
	if strings.Contains(line, "MariaDB") {
		p.flavor = engine.MariaDB
	}
	m := regexp.MustCompile(`(?:Distrib|from|Ver)\s+(\d+\.\d+\.\d+)`).FindStringSubmatch(line)
	if m == nil {
		return program{}, false
	}
	p.version, p.num = parseNumber(m[1])
	return p, p.num > 0
}
