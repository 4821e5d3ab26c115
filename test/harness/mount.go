package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

func mount(dir, options string) error {
	options += fmt.Sprintf(",mode=0700,uid=%d,gid=%d", os.Getuid(), os.Getgid())
	if os.Geteuid() == 0 {
		return unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	}
	return sudo("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir)
}

// remount changes the size, or with "ro" makes it read-only.
func remount(dir, options string) error {
	switch {
	case os.Geteuid() != 0:
		return sudo("mount", "-o", "remount,"+options, dir)
	case options == "ro":
		return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	default:
		return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, options)
	}
}

func unmount(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, unix.MNT_DETACH)
	}
	return sudo("umount", "--lazy", dir)
}

// pin makes a file impossible to remove: something is mounted on it.
func pin(path string) error {
	if os.Geteuid() == 0 {
		return unix.Mount(path, path, "", unix.MS_BIND, "")
	}
	return sudo("mount", "--bind", path, path)
}

func sudo(args ...string) error {
	out, err := exec.Command("sudo", append([]string{"-n"}, args...)...).CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}
