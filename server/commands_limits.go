package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/tollgatehq/tollgate/server/internal/app"
)

type limits struct {
	List    limitsList    `cmd:"" help:"List the limits: what they count, for which subject, and how many calls they allow."`
	Delete  limitsDelete  `cmd:"" help:"Remove a limit. Built-in limits cannot be removed; restore them instead."`
	Restore limitsRestore `cmd:"" help:"Set a built-in limit back to its defaults."`
	Reset   limitsReset   `cmd:"" help:"Set the counts of a limit back to zero, for every user, address and key."`
}

func (limits) Help() string {
	return `Use these commands with access to the database when a limit refuses the sign-ins of the administrators who could change it over the API. Servers may keep running: they apply the change within a second, whether they count in Redis or in memory.

When no user can sign in or make a call:

    tollgate recover limits list                   # find a limit on "*" or tollgate:… that allows too little
    tollgate recover limits delete NAME            # remove a limit that a user created
    tollgate recover limits restore sign-in-per-ip # set back a built-in limit that was changed

When a user gets "too many attempts" because others guessed their password:

    tollgate recover limits reset sign-in-per-user

The audit log records these changes with the actor "system". Administrators, who hold "*", can make the same changes over the API; limits never refuse those calls.`
}

type limitsList struct{}

func (limitsList) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tCOUNTS\tPERMISSION\tRATE\tBURST\tALGORITHM\tMODE\tOUTAGE\tLEASE\tOVERRIDES\tBUILT IN")
		for token := ""; ; {
			list, next, err := a.Limits.List(ctx, 250, token)
			if err != nil {
				return err
			}
			for _, l := range list {
				builtin, lease := "no", "-"
				if l.Builtin {
					builtin = "yes"
				}
				if l.Lease {
					lease = l.LeaseTime.String()
				}
				fmt.Fprintln(table, strings.Join([]string{
					l.Name, string(l.Subject), l.Permission, fmt.Sprintf("%d/%s", l.Rate, l.Per()), fmt.Sprint(l.AtOnce()),
					string(l.Algorithm), string(l.Mode), string(l.Outage), lease, fmt.Sprint(len(l.Overrides)), builtin,
				}, "\t"))
			}
			if token = next; token == "" {
				return table.Flush()
			}
		}
	})
}

type limitsDelete struct {
	Name string `arg:"" help:"The limit's name, as listed."`
}

func (l limitsDelete) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		if _, err := a.Limits.Delete(ctx, l.Name); err != nil {
			return err
		}
		fmt.Println("removed limit", l.Name)
		return nil
	})
}

type limitsRestore struct {
	Name string `arg:"" help:"The built-in limit's name, as listed."`
}

func (l limitsRestore) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		restored, err := a.Limits.Restore(ctx, l.Name)
		if err != nil {
			return err
		}
		fmt.Printf("restored limit %s to its defaults: %d calls of %s per %s\n", restored.Name, restored.Rate, restored.Permission, restored.Per())
		return nil
	})
}

type limitsReset struct {
	Name string `arg:"" help:"The limit's name, as listed."`
}

func (limitsReset) Help() string {
	return `Sets the counts of every key of the limit back to zero: of all users, addresses or API keys. An administrator can reset one key over the API: POST /v1/limits/NAME/reset {"key": "…"}; a user's key may be the user name or the id.`
}

func (l limitsReset) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		if _, err := a.Limits.ResetAll(ctx, l.Name); err != nil {
			return err
		}
		fmt.Println("reset the counts of limit", l.Name)
		return nil
	})
}
