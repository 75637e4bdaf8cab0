package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

type signingKeys struct {
	List   keysList   `cmd:"" help:"List the keys that sign access tokens."`
	Rotate keysRotate `cmd:"" help:"Create a new signing key. It is published at once and signs after some minutes; no token is refused."`
	Remove keysRemove `cmd:"" help:"Remove a signing key that leaked, at once. Every token that it signed is refused."`
	Rewrap keysRewrap `cmd:"" help:"Seal every secret in the database under a new master key."`
}

type keysList struct{}

func (keysList) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		list, err := a.Auth.SigningKeys.List(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tALGORITHM\tSTATE\tCREATED\tACTIVE\tRETIRED\tREMOVED")
		for _, key := range list {
			fmt.Fprintln(table, strings.Join([]string{
				key.ID, key.Algorithm, string(key.State), when(key.CreatedAt), when(key.ActiveAt), when(key.RetiredAt), when(key.RemovedAt),
			}, "\t"))
		}
		return table.Flush()
	})
}

// when formats a time for a table; a time that is not known is "-".
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

type keysRotate struct {
	Algorithm string `help:"EdDSA, ES256 or RS256. Default: the one of --signing-algorithm." enum:",EdDSA,ES256,RS256" default:"" placeholder:"NAME"`
}

func (k keysRotate) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		key, _, err := a.Auth.SigningKeys.Rotate(ctx, k.Algorithm)
		if err != nil {
			return err
		}
		fmt.Printf("created signing key %s (%s); it signs from %s on\n", key.ID, key.Algorithm, when(key.ActiveAt))
		return nil
	})
}

// keyIDsLast moves signing key ids that begin with "-", as one in 64 does, to
// the end, after "--": the parser would take them for flags. An id is 43
// characters of base64url (RFC 7638 with SHA-256), which no flag is.
func keyIDsLast(args []string) []string {
	var others, ids []string
	for i, arg := range args {
		if arg == "--" {
			others = append(others, args[i:]...)
			break
		}
		if dashedKeyID.MatchString(arg) {
			ids = append(ids, arg)
		} else {
			others = append(others, arg)
		}
	}
	if len(ids) == 0 {
		return args
	}
	if !slices.Contains(others, "--") {
		others = append(others, "--")
	}
	return append(others, ids...)
}

var dashedKeyID = regexp.MustCompile(`^-[A-Za-z0-9_-]{42}$`)

type keysRemove struct {
	ID string `arg:"" help:"The key's id, as listed."`
}

func (k keysRemove) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		if _, err := a.Auth.SigningKeys.Remove(ctx, k.ID); err != nil {
			return err
		}
		fmt.Println("removed signing key", k.ID)
		fmt.Println("its tokens are refused from now on; services that verify tokens themselves may accept them for up to 5 minutes more, while they cache the key set")
		return nil
	})
}

type keysRewrap struct {
	NewMasterKey string `help:"The new master key: 32 random bytes in base64 (openssl rand -base64 32), or file:PATH to read them from a file, which is created when it is missing." required:"" env:"TOLLGATE_NEW_MASTER_KEY" placeholder:"KEY"`
}

func (keysRewrap) Help() string {
	return `Opens every secret in the database, signing keys and second factors, with the current master key (TOLLGATE_MASTER_KEY) and seals it under the new one. It changes all of them or none.

Running servers keep signing and verifying with the keys in their memory. Until you restart them with the new master key they cannot check or enroll second factors, nor rotate the signing key. In this order: make sure that no rotation is pending (tollgate signing-keys list), run this command, set TOLLGATE_MASTER_KEY to the new key everywhere, and restart every server at once. A second factor enrolled on a server between this command and its restart must be enrolled again. Page tokens made under the old key are refused; read those lists again from their first page.

Keep the old key for as long as you keep backups made before.`
}

func (k keysRewrap) Run(ctx context.Context, config app.Config) error {
	done, err := app.Rewrap(ctx, config, k.NewMasterKey, clock.Real())
	if err != nil {
		return err
	}
	fmt.Printf("sealed %d signing keys, %d second factors and %d keys of the audit log under the new master key\n", done.SigningKeys, done.SecondFactors, done.AuditKeys)
	source := "the new key"
	if strings.HasPrefix(k.NewMasterKey, "file:") {
		source = k.NewMasterKey
	}
	fmt.Printf("now set TOLLGATE_MASTER_KEY to %s on every server and restart them all\n", source)
	return nil
}
