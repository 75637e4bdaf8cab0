//go:build unix

package seal

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a key file of this user that others may read or change, as
// ssh does with its keys. The mode of another owner's file is that owner's
// decision: a platform that mounts a secret into a container sets it.
func checkOwner(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int64(stat.Uid) != int64(os.Geteuid()) || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return fmt.Errorf("master key file %s has mode %04o, so others than its owner can get at the key; take that away with: chmod 600 %s",
		path, info.Mode().Perm(), path)
}
