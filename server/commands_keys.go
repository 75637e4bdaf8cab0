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

type keys struct {
	List   keysList   `cmd:"" help:"List the keys that access tokens are signed with."`
	Rotate keysRotate `cmd:"" help:"Make a new signing key. It is published now and signs in some minutes; no token is refused."`
	Remove keysRemove `cmd:"" help:"Stop a signing key that leaked, now. Every token that it signed is refused."`
	Reseal keysReseal `cmd:"" help:"Seal everything secret in the database under a new master key."`
}

type keysList struct{}

// Run prints a table.
func (keysList) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		list, err := a.Auth.SigningKeys(ctx)
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

// when is a time in a table, "-" for one that is not known.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

type keysRotate struct {
	Algorithm string `help:"EdDSA, ES256 or RS256; empty: that of --signing-algorithm." enum:",EdDSA,ES256,RS256" default:"" placeholder:"NAME"`
}

// Run makes the next key.
func (k keysRotate) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		key, _, err := a.Auth.RotateSigningKey(ctx, k.Algorithm)
		if err != nil {
			return err
		}
		fmt.Printf("made signing key %s (%s); it signs from %s on\n", key.ID, key.Algorithm, when(key.ActiveAt))
		return nil
	})
}

// keyIDsLast moves arguments that are a signing key's id and begin with "-" to
// the end, after "--": the parser would take them for flags, and one id in 64
// begins so. An id is 43 characters of base64url (RFC 7638 with SHA-256), which
// no flag of ours is.
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

// Run removes the key.
func (k keysRemove) Run(ctx context.Context, config app.Config, out app.Out) error {
	return withApp(ctx, config, out, func(ctx context.Context, a *app.App) error {
		if _, err := a.Auth.RemoveSigningKey(ctx, k.ID); err != nil {
			return err
		}
		fmt.Println("removed signing key", k.ID)
		fmt.Println("its tokens are refused from now on; services that verify tokens by themselves may take up to 5 minutes, for which they may keep the key set")
		return nil
	})
}

type keysReseal struct {
	NewMasterKey string `help:"The new master key: 32 random bytes in base64 (openssl rand -base64 32), or file:PATH to read or make them there." required:"" env:"TOLLGATE_NEW_MASTER_KEY" placeholder:"KEY"`
}

// Help says how to go about it.
func (keysReseal) Help() string {
	return `Opens every secret in the database, signing keys and second factors, with the present master key (TOLLGATE_MASTER_KEY) and seals it under the new one, all or nothing.

Servers that run keep signing and verifying with the keys in their memory. Until they are started again with the new master key they can neither check nor take in second factors, nor rotate the signing key. So: no rotation pending (tollgate keys list), run this, set TOLLGATE_MASTER_KEY to the new key everywhere, and start every server again at once. A second factor set up on a server between this command and its restart has to be set up again. Page tokens made under the old key are refused; lists start again at their first page.

Keep the old key as long as you keep backups from before.`
}

// Run seals everything again.
func (k keysReseal) Run(ctx context.Context, config app.Config) error {
	done, err := app.Reseal(ctx, config, k.NewMasterKey, clock.Real())
	if err != nil {
		return err
	}
	fmt.Printf("sealed %d signing keys and %d second factors under the new master key\n", done.SigningKeys, done.SecondFactors)
	source := "the new key"
	if strings.HasPrefix(k.NewMasterKey, "file:") {
		source = k.NewMasterKey
	}
	fmt.Printf("now set TOLLGATE_MASTER_KEY to %s for every server and start them again\n", source)
	return nil
}
