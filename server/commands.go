package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/world"
)

type migrate struct {
	Up     migrateUp     `cmd:"" help:"Bring the schema up to this binary's version. Serving does it too."`
	Down   migrateDown   `cmd:"" help:"Undo the newest steps. This drops what they made, and the data in it."`
	Status migrateStatus `cmd:"" help:"Say which steps are applied."`
}

type migrateUp struct{}

// Run applies every step.
func (migrateUp) Run(ctx context.Context, config app.Config) error {
	return withDatabase(config, func(db *database.DB) error {
		steps, err := db.MigrateUp(ctx)
		return report("applied", steps, err)
	})
}

type migrateDown struct {
	Steps int  `help:"How many steps to undo." default:"1"`
	Yes   bool `help:"Really drop the tables and their data."`
}

// Run undoes steps.
func (m migrateDown) Run(ctx context.Context, config app.Config) error {
	if m.Steps < 1 {
		return errors.New("--steps must be at least 1")
	}
	if !m.Yes {
		return errors.New("this drops tables and the data in them; say --yes if you mean it")
	}
	return withDatabase(config, func(db *database.DB) error {
		steps, err := db.MigrateDown(ctx, m.Steps)
		return report("undid", steps, err)
	})
}

type migrateStatus struct{}

// Run lists the steps.
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

type user struct {
	Create        userCreate        `cmd:"" help:"Make a person, with roles."`
	ResetPassword userResetPassword `cmd:"" name:"reset-password" help:"Give a person a new password, end their sessions and revoke their API keys."`

	ResetSecondFactor userResetSecondFactor `cmd:"" name:"reset-second-factor" help:"Turn off the second factor of a person who has lost it."`
}

type userCreate struct {
	Username string   `arg:"" help:"The name to sign in with."`
	Role     []string `help:"A role to give; more than once for more." placeholder:"NAME"`
}

// Run makes the user; the password comes from the terminal or a pipe.
func (u userCreate) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		password, err := readSecret(ctx, "Password for "+u.Username+": ")
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		if password == "" { // a pipe that failed must not make a user who cannot sign in
			return errors.New("the password is empty; give one")
		}
		made, _, err := a.Auth.CreateUser(ctx, auth.NewUser{
			Username: u.Username, Password: password, Kind: caller.Person, Roles: u.Role,
		})
		if err != nil {
			return err
		}
		fmt.Printf("made user %s (%s)\n", made.Username, made.ID)
		return nil
	})
}

type userResetSecondFactor struct {
	Username string `arg:"" help:"Whose second factor."`
}

// Run turns the second factor off.
func (u userResetSecondFactor) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		if err := a.Auth.ResetSecondFactor(ctx, u.Username); err != nil {
			return err
		}
		fmt.Println("the second factor of", u.Username, "is off; the password alone signs in")
		return nil
	})
}

type userResetPassword struct {
	Username string `arg:"" help:"Whose password."`
	Generate bool   `help:"Make up a one-time password, which must be changed at the next sign-in, instead of reading one."`

	KeepAPIKeys bool `name:"keep-api-keys" help:"Leave the person's API keys as they are."`
}

// Run resets the password.
func (u userResetPassword) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		var password string
		if !u.Generate {
			var err error
			if password, err = readSecret(ctx, "New password for "+u.Username+": "); err != nil {
				return fmt.Errorf("read the password: %w", err)
			}
			if password == "" {
				return errors.New("the password is empty; give one, or say --generate")
			}
		}
		done, err := a.Auth.ResetPassword(ctx, u.Username, password, u.KeepAPIKeys)
		if err != nil {
			return err
		}
		if done.OneTime != "" {
			fmt.Println("one-time password:", done.OneTime)
		}
		fmt.Printf("the password is reset and every session of %s has ended; API keys revoked: %d\n", u.Username, done.RevokedAPIKeys)
		return nil
	})
}

// withApp opens everything but the listeners, so that a command does what a
// request would, with the same records.
func withApp(ctx context.Context, config app.Config, out app.Out, fn func(context.Context, *app.App) error) error {
	a, err := app.Open(ctx, config, world.Real(), out)
	if err != nil {
		return err
	}
	return errors.Join(fn(caller.System(ctx), a), a.Close())
}
