package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

type migrate struct {
	Up     migrateUp     `cmd:"" help:"Migrate the schema to this binary's version. A server does so when it starts."`
	Down   migrateDown   `cmd:"" help:"Undo the newest migrations. This drops their tables and the data in them."`
	Status migrateStatus `cmd:"" help:"List the migrations and say which are applied."`
}

type migrateUp struct{}

func (migrateUp) Run(ctx context.Context, config app.Config) error {
	return withDatabase(config, func(db *database.DB) error {
		steps, err := db.MigrateUp(ctx)
		return report("applied", steps, err)
	})
}

type migrateDown struct {
	Steps int  `help:"How many migrations to undo." default:"1"`
	Yes   bool `help:"Confirm that tables and their data may be dropped."`
}

func (m migrateDown) Run(ctx context.Context, config app.Config) error {
	if m.Steps < 1 {
		return errors.New("--steps must be at least 1")
	}
	if !m.Yes {
		return errors.New("this would drop tables and the data in them; repeat it with --yes to do so")
	}
	return withDatabase(config, func(db *database.DB) error {
		steps, err := db.MigrateDown(ctx, m.Steps)
		return report("undid", steps, err)
	})
}

type migrateStatus struct{}

func (migrateStatus) Run(ctx context.Context, config app.Config) error {
	return withDatabase(config, func(db *database.DB) error {
		steps, err := db.MigrationStatus(ctx)
		if err != nil {
			return err
		}
		for _, step := range steps {
			state := "not applied"
			if !step.AppliedAt.IsZero() {
				state = "applied " + step.AppliedAt.UTC().Format(time.RFC3339)
			}
			fmt.Printf("%-32s %s\n", step.ID, state)
		}
		return nil
	})
}

func report(verb string, steps []string, err error) error {
	if err != nil {
		return err
	}
	for _, step := range steps {
		fmt.Println(verb, step)
	}
	if len(steps) == 0 {
		fmt.Println("nothing to do")
	}
	return nil
}

func withDatabase(config app.Config, fn func(*database.DB) error) error {
	db, err := database.Open(config.DatabaseURL)
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}

// withApp opens everything but the listeners, so that a command changes the data
// and writes the audit log as a request does.
func withApp(ctx context.Context, config app.Config, out app.Out, fn func(context.Context, *app.App) error) error {
	a, err := app.Open(ctx, config, clock.Real(), out)
	if err != nil {
		return err
	}
	return errors.Join(fn(caller.System(ctx), a), a.Close())
}
