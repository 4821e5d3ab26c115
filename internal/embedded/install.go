package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// install is one set of server binaries.
type install struct {
	dir     string
	version string // as PostgreSQL writes it: "15.14"
	major   int
}

func (i install) initdb() string   { return filepath.Join(i.dir, "initdb") }
func (i install) postgres() string { return filepath.Join(i.dir, "postgres") }

// pickInstall returns the binaries for a cluster: those of its own major for an
// existing one, the newest for a new one.
func pickInstall(ctx context.Context, binDir string, h home) (install, error) {
	found, failures := map[int]install{}, []error(nil)
	for _, dir := range installDirs(binDir) {
		i, err := inspect(ctx, dir, h.account)
		if err != nil {
			failures = append(failures, err)
		} else if _, taken := found[i.major]; !taken {
			found[i.major] = i
		}
	}
	if ctx.Err() != nil {
		return install{}, context.Cause(ctx)
	}
	if len(found) == 0 {
		return install{}, notInstalled(binDir, errors.Join(failures...))
	}
	return choose(found, h)
}

func choose(found map[int]install, h home) (install, error) {
	majors := slices.Sorted(maps.Keys(found))
	if !h.exists {
		return found[majors[len(majors)-1]], nil
	}
	if i, ok := found[h.major]; ok {
		return i, nil
	}
	return install{}, errs.New(errs.Conflict, CodeMajorMissing,
		"the cluster %q is of PostgreSQL %d and the installed server is %s; nothing was touched; install that one with `apt-get install postgresql-%d`",
		h.link, h.major, strings.Trim(fmt.Sprint(majors), "[]"), h.major)
}

func notInstalled(binDir string, cause error) error {
	where := "on this machine"
	if binDir != "" {
		where = fmt.Sprintf("in %q", binDir)
	}
	return errs.Wrap(cause, errs.Unavailable, CodeNotInstalled,
		"PostgreSQL's server programs (initdb, postgres) are not usable %s; install them with `apt-get install postgresql`, or name a server of your own with --database-url", where)
}

// installDirs lists where distributions put the server, then the search path.
func installDirs(binDir string) []string {
	if binDir != "" {
		return []string{binDir}
	}
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*"} {
		matches, err := filepath.Glob(pattern)
		if err == nil { // the patterns are constants: they are well-formed
			dirs = append(dirs, matches...)
		}
	}
	if program, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(program))
	}
	return dirs
}

// "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "... 18beta1", "... 9.6.24".
var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[.0-9a-z]*)`)

// inspect asks the binaries of a directory for their version, as the account
// that will run them.
func inspect(ctx context.Context, dir string, a account) (install, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return install{}, err
	}
	i := install{dir: abs}
	if _, err := os.Stat(i.initdb()); err != nil {
		return install{}, err
	}
	out, err := a.run(ctx, i.postgres(), "/", "--version")
	if err != nil {
		return install{}, fmt.Errorf("%s --version: %w", i.postgres(), err)
	}
	match := versionLine.FindStringSubmatch(out)
	if match == nil {
		return install{}, fmt.Errorf("%s --version says %q", i.postgres(), strings.TrimSpace(out))
	}
	i.version = match[1]
	if i.major, err = strconv.Atoi(match[2]); err != nil {
		return install{}, fmt.Errorf("%s --version says %q: %w", i.postgres(), strings.TrimSpace(out), err)
	}
	return i, nil
}
