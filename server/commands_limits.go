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
	List    limitsList    `cmd:"" help:"List the limits: what they count, whom, and how many calls they allow."`
	Delete  limitsDelete  `cmd:"" help:"Remove a limit. Built-in ones can be restored instead."`
	Restore limitsRestore `cmd:"" help:"Make a built-in limit what it came as."`
	Reset   limitsReset   `cmd:"" help:"Forget what a limit has counted, for everybody."`
}

// Help says when these are needed.
func (limits) Help() string {
	return `For whoever owns the database, when a limit refuses the sign-ins of those who could mend it over the API. A server may run meanwhile and goes by the change within a second; nothing has to be started again, whether it counts in Redis or by itself.

Nobody can sign in, or call anything:

    tollgate limits list                   # which limit is on "*" or tollgate:…, and allows too little?
    tollgate limits delete NAME            # one that somebody made
    tollgate limits restore sign-in-per-ip # one that came with Tollgate and was changed

Somebody is told "too many attempts" after the guesses of others:

    tollgate limits reset sign-in-per-user

All of it is in the audit log, as done by "system". Administrators, who hold "*", can do the same over the API; limits do not refuse them these calls.`
}

type limitsList struct{}

// Run prints a table.
func (limitsList) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tCOUNTS\tPERMISSION\tRATE\tBURST\tALGORITHM\tMODE\tOUTAGE\tOVERRIDES\tBUILT IN")
		for token := ""; ; {
			list, next, err := a.Limits.List(ctx, 250, token)
			if err != nil {
				return err
			}
			for _, l := range list {
				builtin := "no"
				if l.Builtin {
					builtin = "yes"
				}
				fmt.Fprintln(table, strings.Join([]string{
					l.Name, string(l.Subject), l.Permission, fmt.Sprintf("%d/%s", l.Rate, l.Period), fmt.Sprint(l.AtOnce()),
					string(l.Algorithm), string(l.Mode), string(l.Outage), fmt.Sprint(len(l.Overrides)), builtin,
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

// Run removes the limit.
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

// Run restores the limit.
func (l limitsRestore) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		restored, err := a.Limits.Restore(ctx, l.Name)
		if err != nil {
			return err
		}
		fmt.Printf("limit %s is what it came as: %d calls of %s per %s\n", restored.Name, restored.Rate, restored.Permission, restored.Period)
		return nil
	})
}

type limitsReset struct {
	Name string `arg:"" help:"The limit's name, as listed."`
}

// Help says what is forgotten.
func (limitsReset) Help() string {
	return `Forgets the counts of every key of the limit: of all users, addresses or API keys. An administrator can forget those of one key over the API: POST /v1/limits/NAME/reset {"key": "…"}.`
}

// Run forgets the counts.
func (l limitsReset) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		if _, err := a.Limits.ResetAll(ctx, l.Name); err != nil {
			return err
		}
		fmt.Println("forgot what limit", l.Name, "has counted")
		return nil
	})
}
