package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// openMaster reads the master key, or makes its file for a new database.
func openMaster(ctx context.Context, config Config) (*seal.Master, error) {
	source := config.masterKey()
	if source == "" {
		return nil, errors.New("set TOLLGATE_MASTER_KEY to 32 random bytes in base64 (openssl rand -base64 32), the same for every instance")
	}
	if path, ok := strings.CutPrefix(source, "file:"); ok && missing(path) {
		if err := mayMakeKey(ctx, config, path); err != nil {
			return nil, err
		}
	}
	return readMaster(source)
}

// mayMakeKey refuses to make the key's file for a database that has something
// sealed under a key: a new one could not open it, and would hide that the file
// was lost.
func mayMakeKey(ctx context.Context, config Config, path string) error {
	db, err := database.Open(config.DatabaseURL)
	if err != nil {
		return err
	}
	sealed, err := auth.Sealed(ctx, db)
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("database %s: %w", redactURL(config.DatabaseURL), err)
	}
	// A faster instance makes the file before it seals anything.
	if sealed && missing(path) {
		return fmt.Errorf("the master key file %s is missing, and the database has secrets that only its key opens; "+
			"restore the file from a backup, or set TOLLGATE_MASTER_KEY to where the key is; %s", path, seal.AfterLoss)
	}
	return nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// readMaster takes 32 bytes in base64, or file:PATH to read or make them there.
func readMaster(source string) (*seal.Master, error) {
	var key []byte
	var err error
	if path, ok := strings.CutPrefix(source, "file:"); ok {
		key, err = seal.File(path)
	} else {
		key, err = seal.Parse(source)
	}
	if err != nil {
		return nil, err
	}
	return seal.New(key)
}
