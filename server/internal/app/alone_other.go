//go:build !unix

package app

import "os"

// lockShared does nothing where there is no flock.
func lockShared(string) (file *os.File, shared bool, err error) { return nil, false, nil }
