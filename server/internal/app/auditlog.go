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
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/sinks"
)

// RotateAuditKey makes a new key that signs the audit log's checkpoints, and returns its id.
func RotateAuditKey(ctx context.Context, config Config, clk clock.Clock) (id string, err error) {
	err = changeAuditLog(ctx, config, clk, func(ctx context.Context, t *tree.Tree, tx *database.Tx) (e audit.Event, err error) {
		if id, err = t.Rotate(ctx, tx); err != nil {
			return e, err
		}
		return audit.New(ctx, audit.LogKeyRotate, audit.Success, "audit_keys/"+id), nil
	})
	return id, err
}

// StartAuditLogOver begins a new tree of the audit log, with the events that it has, and
// returns its name.
func StartAuditLogOver(ctx context.Context, config Config, clk clock.Clock) (name string, err error) {
	err = changeAuditLog(ctx, config, clk, func(ctx context.Context, t *tree.Tree, tx *database.Tx) (e audit.Event, err error) {
		if name, err = t.StartOver(ctx, tx); err != nil {
			return e, err
		}
		if err := sinks.StartOver(ctx, tx); err != nil {
			return e, err
		}
		return audit.New(ctx, audit.LogStartOver, audit.Success, "").With("log", name), nil
	})
	return name, err
}

// changeAuditLog changes the tree in one transaction with the event of it.
func changeAuditLog(ctx context.Context, config Config, clk clock.Clock, change func(context.Context, *tree.Tree, *database.Tx) (audit.Event, error)) (err error) {
	if err := config.check(); err != nil {
		return err
	}
	master, err := openMaster(ctx, config)
	if err != nil {
		return err
	}
	db, err := database.OpenWithin(config.DatabaseURL, 5*time.Minute) // patient: there may be many events
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.MigrateUp(ctx); err != nil {
		return fmt.Errorf("database %s: %w", redactURL(config.DatabaseURL), err)
	}
	grown := tree.New(db, clk, master, config.auditOrigin())
	return db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		e, err := change(caller.System(ctx), grown, tx)
		if err != nil {
			return err
		}
		return audit.Append(ctx, tx, clk, e)
	})
}

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
