package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// WithAuditLog calls fn with the audit log in the database and its keys, which the master
// key proves to be the log's own. It changes nothing.
func WithAuditLog(ctx context.Context, config Config, fn func(log auditlog.Source, keys []string) error) (err error) {
	if err := config.check(); err != nil {
		return err
	}
	if path, ok := strings.CutPrefix(config.DatabaseURL, "sqlite:"); ok && missing(path) {
		return fmt.Errorf("there is no file %s; name the database with --database-url, or a server with --url", path)
	}
	db, err := database.OpenWithin(config.DatabaseURL, time.Minute)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	switch has, err := db.Exists(ctx, "audit_head"); {
	case err != nil:
		return fmt.Errorf("database %s: %w", redactURL(config.DatabaseURL), err)
	case !has:
		return fmt.Errorf("database %s has no tree of the audit log: a server of this version makes it when it starts", redactURL(config.DatabaseURL))
	}
	master, err := openMaster(ctx, config)
	if err != nil {
		return err
	}
	grown := tree.New(db, clock.Real(), master, config.auditOrigin())
	list, err := grown.PublicKeys(ctx)
	if err != nil {
		return err
	}
	keys := make([]string, len(list))
	for i, k := range list {
		keys[i] = k.Text
	}
	log := audit.NewService(db, clock.Real(), page.NewTokens(nil), nil)
	log.GrowTree(grown)
	return fn(log.Source(), keys)
}
