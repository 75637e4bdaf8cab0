//go:build unix

package sinks

import (
	"errors"
	"os"
)

// syncDir has a new or renamed file still there after a loss of power.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
