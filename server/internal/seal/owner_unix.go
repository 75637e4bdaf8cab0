//go:build unix

package seal

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a key file of ours that others may read or change, as ssh
// does with its keys. A file of somebody else is theirs to protect: the
// platform that mounts a secret into a container decides about its mode.
func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int64(stat.Uid) != int64(os.Geteuid()) || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return fmt.Errorf("master key file %s has mode %04o, so others than its owner can get at the key; take that away with: chmod 600 %s",
		path, info.Mode().Perm(), path)
}
