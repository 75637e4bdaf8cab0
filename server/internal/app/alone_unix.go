//go:build unix

package app

import (
	"errors"
	"os"
	"syscall"
)

// lockShared takes a lock on a file next to a SQLite database that any number of
// servers may hold, and says whether another has it already. The operating system
// gives it back when the process ends, however it ends.
func lockShared(path string) (file *os.File, shared bool, err error) {
	file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if shared = errors.Is(err, syscall.EWOULDBLOCK); err == nil || shared {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH)
	}
	return file, shared, err
}
