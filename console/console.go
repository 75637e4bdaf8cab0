// Package console holds the built console. Everything but this file is its source:
// `make console` builds dist, which is in git, so that a server builds without Node.
package console

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// Files are what Vite has built: index.html, and under assets files whose names hold a
// hash of their content.
func Files() fs.FS {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name is a constant
	}
	return files
}
