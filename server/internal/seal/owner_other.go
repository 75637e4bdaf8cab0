//go:build !unix

package seal

import "io/fs"

// checkOwner: there are no modes to look at; access is inherited from the folder.
func checkOwner(string, fs.FileInfo) error { return nil }
