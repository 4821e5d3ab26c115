package embedded

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// account is the operating-system account PostgreSQL runs as. PostgreSQL
// refuses to run as root, so that root hands over to another one.
type account struct {
	uid, gid uint32
	// credential is nil when the process already runs as the account.
	credential *syscall.Credential
}

// currentAccount is for a process that is not root.
func currentAccount() account {
	return account{uid: id32(os.Geteuid()), gid: id32(os.Getegid())}
}

// newClusterAccount returns who runs a cluster that does not exist yet.
func newClusterAccount() (account, error) {
	if os.Geteuid() != 0 {
		return currentAccount(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return account{}, errs.Wrap(err, errs.Unavailable, CodeNotInstalled,
			"PostgreSQL does not run as root and there is no account postgres to run it as; install it with `apt-get install postgresql`, or start dataguardian as another user")
	}
	return accountOf(u)
}

// ownerAccount returns who runs an existing cluster: its owner, whom PostgreSQL
// insists on.
func ownerAccount(dir string, info os.FileInfo) (account, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, errs.New(errs.Internal, CodeDataDir, "the owner of %q cannot be read on this system", dir)
	}
	switch {
	case os.Geteuid() != 0 && int(stat.Uid) != os.Geteuid():
		return account{}, errs.New(errs.Invalid, CodeDataDir,
			"the cluster %q belongs to uid %d and this process runs as uid %d; start dataguardian as the owner or as root", dir, stat.Uid, os.Geteuid())
	case os.Geteuid() != 0:
		return currentAccount(), nil
	case stat.Uid == 0:
		return account{}, errs.New(errs.Invalid, CodeDataDir,
			"the cluster %q belongs to root, as whom PostgreSQL does not run; give it to the account postgres with `chown -R postgres`", dir)
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(stat.Uid), 10))
	if unknown := user.UnknownUserIdError(0); errors.As(err, &unknown) {
		return switchTo(stat.Uid, stat.Gid, nil), nil
	} else if err != nil {
		return account{}, errs.Wrap(err, errs.Unavailable, CodeDataDir, "the owner of the cluster %q, uid %d, cannot be looked up; check the system's user database", dir, stat.Uid)
	}
	return accountOf(u)
}

func accountOf(u *user.User) (account, error) {
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	names, groupsErr := u.GroupIds()
	if err := errors.Join(uidErr, gidErr, groupsErr); err != nil {
		return account{}, errs.Wrap(err, errs.Unavailable, CodeDataDir, "the account %s cannot be looked up; check the system's user database", u.Username)
	}
	groups := make([]uint32, 0, len(names))
	for _, name := range names {
		g, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return account{}, errs.Wrap(err, errs.Unavailable, CodeDataDir, "the groups of the account %s cannot be read; check the system's user database", u.Username)
		}
		groups = append(groups, uint32(g))
	}
	return switchTo(uint32(uid), uint32(gid), groups), nil
}

func switchTo(uid, gid uint32, groups []uint32) account {
	return account{uid: uid, gid: gid, credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
}

func id32(id int) uint32 { return uint32(id) } //nolint:gosec // the kernel's ids are 32 bits wide

// give hands a path that this process made to the account.
func (a account) give(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// command prepares a program run as the account, with a known environment, in a
// process group of its own: a terminal's Ctrl-C is for dataguardian, which then
// stops it in order. It is sent death when the thread that starts it ends.
func (a account) command(ctx context.Context, program, dir string, death syscall.Signal, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // PostgreSQL's own programs
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TZ=UTC",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: death, Credential: a.credential}
	return cmd
}

// run runs a short program to its end and returns what it wrote. The kernel
// kills it with this process.
func (a account) run(ctx context.Context, program, dir string, args ...string) (string, error) {
	// The death signal comes when the starting thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := a.command(ctx, program, dir, syscall.SIGKILL, args...)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children too
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return string(out), err
}

// reaches tells whether the account can work in dir, by letting it.
func (a account) reaches(ctx context.Context, program, dir string) (bool, error) {
	if a.credential == nil {
		return true, nil
	}
	_, err := a.run(ctx, program, dir, "--version")
	if errors.Is(err, os.ErrPermission) {
		return false, nil
	}
	return err == nil, err
}
