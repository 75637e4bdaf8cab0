package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/auth/password"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
)

type user struct {
	List          userList          `cmd:"" help:"List users and service accounts with their roles."`
	Create        userCreate        `cmd:"" help:"Create a user, with roles."`
	ResetPassword userResetPassword `cmd:"" name:"reset-password" help:"Set a new password for a user, revoke their sessions and their API keys."`

	ResetSecondFactor userResetSecondFactor `cmd:"" name:"reset-second-factor" help:"Turn off the second factor of a user who has lost it."`
}

type userList struct{}

func (userList) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "USERNAME\tID\tKIND\tSTATE\tSECOND FACTOR\tROLES\tCREATED")
		for token := ""; ; {
			users, next, err := a.Auth.ListUsers(ctx, auth.UserFilter{}, 250, token)
			if err != nil {
				return err
			}
			for _, u := range users {
				state, factor := "enabled", "no"
				switch {
				case u.Disabled:
					state = "disabled"
				case u.PasswordChangeRequired:
					state = "must change password"
				}
				if u.SecondFactor {
					factor = "yes"
				}
				fmt.Fprintln(table, strings.Join([]string{
					u.Username, u.ID, string(u.Kind), state, factor, cmp.Or(strings.Join(u.Roles, ","), "-"), when(u.CreatedAt),
				}, "\t"))
			}
			if token = next; token == "" {
				return table.Flush()
			}
		}
	})
}

type userCreate struct {
	Username string   `arg:"" help:"The name to sign in with."`
	Role     []string `help:"A role to assign. Repeat the flag for more." placeholder:"NAME"`
	Generate bool     `help:"Generate a one-time password, which must be changed at the first sign-in, instead of reading a password."`
}

// Run creates the user. It reads the password from the terminal or a pipe.
func (u userCreate) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		var secret string
		if u.Generate {
			secret = password.NewOneTime()
		} else {
			var err error
			if secret, err = readPassword(ctx, "Password for "+u.Username+": "); err != nil {
				return err
			}
		}
		made, _, err := a.Auth.CreateUser(ctx, auth.NewUser{
			Username: u.Username, Password: secret, Kind: caller.Person, Roles: u.Role, PasswordChangeRequired: u.Generate,
		})
		if err != nil {
			return err
		}
		if u.Generate {
			fmt.Println("one-time password:", secret)
		}
		fmt.Printf("created user %s (%s)\n", made.Username, made.ID)
		return nil
	})
}

// readPassword refuses an empty password: a pipe that failed must not create a
// user who cannot sign in.
func readPassword(ctx context.Context, prompt string) (string, error) {
	password, err := terminal.NewPrompt(os.Stdin, os.Stderr).Secret(ctx, prompt)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the password: %w", err)
	case password == "":
		return "", errors.New("the password is empty; type one, or use --generate")
	}
	return password, nil
}

type userResetSecondFactor struct {
	Username string `arg:"" help:"The user's name."`
}

func (u userResetSecondFactor) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		if err := a.Auth.ResetSecondFactor(ctx, u.Username); err != nil {
			return err
		}
		fmt.Println("the second factor of", u.Username, "is off; the password alone is enough to sign in")
		return nil
	})
}

type userResetPassword struct {
	Username string `arg:"" help:"The user's name."`
	Generate bool   `help:"Generate a one-time password, which must be changed at the next sign-in, instead of reading a password."`

	KeepAPIKeys bool `name:"keep-api-keys" help:"Keep the user's API keys."`
}

func (u userResetPassword) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		var password string
		if !u.Generate {
			var err error
			if password, err = readPassword(ctx, "New password for "+u.Username+": "); err != nil {
				return err
			}
		}
		done, err := a.Auth.ResetPassword(ctx, u.Username, password, u.KeepAPIKeys)
		if err != nil {
			return err
		}
		if done.OneTime != "" {
			fmt.Println("one-time password:", done.OneTime)
		}
		fmt.Printf("reset the password of %s and revoked every session; API keys revoked: %d\n", u.Username, done.RevokedAPIKeys)
		return nil
	})
}
