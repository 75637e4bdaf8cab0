//go:build unix

package seal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// The error shows nothing of the key.
func TestFileModeRefused(t *testing.T) {
	t.Parallel()
	for mode, good := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true,
		0o644: false, 0o640: false, 0o604: false, 0o660: false, 0o602: false, 0o610: false, 0o444: false, 0o777: false,
	} {
		path := filepath.Join(t.TempDir(), "master.key")
		_, err := File(path)
		backendtest.Must(t, err)
		text, err := os.ReadFile(path)
		backendtest.Must(t, err)
		backendtest.Must(t, os.Chmod(path, mode))
		link := filepath.Join(t.TempDir(), "link")
		backendtest.Must(t, os.Symlink(path, link))
		for _, path := range []string{path, link} {
			_, err := File(path)
			if good && err != nil {
				t.Errorf("mode %04o: %v", mode, err)
			}
			if !good && (err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) ||
				!strings.Contains(err.Error(), fmt.Sprintf("%04o", mode)) || strings.Contains(err.Error(), strings.TrimSpace(string(text)))) {
				t.Errorf("mode %04o: %v", mode, err)
			}
		}
	}
}

// foreign is a file of another account.
type foreign struct{ os.FileInfo }

func (f foreign) Sys() any {
	stat := *f.FileInfo.Sys().(*syscall.Stat_t)
	stat.Uid++
	return &stat
}

// TestFileOfAnotherOwner: a platform's secret belongs to the platform, which also
// decides about its mode.
func TestFileOfAnotherOwner(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	backendtest.Must(t, os.WriteFile(path, nil, 0o644))
	if err := os.Chmod(path, 0o644); err != nil { // whatever the umask
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	backendtest.Must(t, err)
	if checkOwner(path, info) == nil {
		t.Error("a file of our own that others can read is taken")
	}
	if err := checkOwner(path, foreign{info}); err != nil {
		t.Errorf("another account's file: %v", err)
	}
}
