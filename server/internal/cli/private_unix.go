//go:build unix

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// private refuses a file or folder that others can read or write, or that is another
// user's.
func private(path string, info os.FileInfo, mode string) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user, so it is not used", path)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("other users can get at %s, which holds tokens, so it is not used; if nobody did, chmod %s %s, else end your sessions: tollgate login, then tollgate logout --everywhere", path, mode, path)
	}
	return nil
}

// readPrivate reads a file that only this user can read. It follows no symbolic link.
func readPrivate(path string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if err := private(path, info, "600"); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(file, limit))
}

// syncDir has a renamed file still there after a loss of power.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// lock waits until no other process holds the lock of a profile, and takes it. The
// operating system gives it back when the process ends, however it ends.
func (s store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := s.ready(true); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(s.dir, name+".lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		}
	}
}
