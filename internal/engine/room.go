package engine

import "golang.org/x/sys/unix"

// FreeSpace returns how many bytes a user may still write on the disk of a directory;
// false when the system does not say.
func FreeSpace(dir string) (bytes int64, ok bool) {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return 0, false
	}
	return int64(disk.Bavail) * disk.Bsize, true //nolint:gosec // no disk is that large
}
