package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"
)

// private does nothing: the folder for a user's configuration is that user's alone.
func private(string, os.FileInfo, string) error { return nil }

func readPrivate(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

func syncDir(string) error { return nil }

// lock waits until no other process holds the lock of a profile, and takes it.
func (s store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := s.ready(true); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(s.dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
		err := windows.LockFileEx(windows.Handle(file.Fd()), flags, 0, 1, 0, &windows.Overlapped{})
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			file.Close()
			return nil, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		}
	}
}
