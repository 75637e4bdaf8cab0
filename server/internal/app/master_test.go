package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// A key file is made for a database that has nothing sealed, by any number of
// instances at once, and never for one that has.
func TestKeyFileOfUsedDatabase(t *testing.T) {
	t.Parallel()
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) {
		config := testConfig(address)
		path := filepath.Join(t.TempDir(), "key")
		config.MasterKey = "file:" + path
		opens := func() error {
			a, err := Open(t.Context(), config, clock.Real(), Out{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			return a.Close()
		}
		opened := make(chan error, 4)
		for range cap(opened) {
			go func() { opened <- opens() }()
		}
		for range cap(opened) {
			if err := <-opened; err != nil {
				t.Errorf("a new database: %v", err)
			}
		}
		backendtest.Must(t, os.Remove(path))
		if err := opens(); err == nil || !strings.Contains(err.Error(), "is missing") || !missing(path) {
			t.Errorf("without its key file: %v", err)
		}
	})
}
