package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestDashedKeyID checks that a key id that begins with "-" is taken as an
// argument in every position.
func TestDashedKeyID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		"-" + strings.Repeat("a", 42), "--" + strings.Repeat("a", 41), "-h" + strings.Repeat("_", 41), strings.Repeat("a", 43),
	} {
		for _, args := range [][]string{
			{"signing-keys", "remove", id},
			{"signing-keys", "remove", id, "--issuer", "https://tollgate.test"},
			{"--issuer=https://tollgate.test", "signing-keys", "remove", id},
			{"signing-keys", "remove", "--", id},
		} {
			var c commands
			parser, err := kong.New(&c, kong.Vars{"version": "test"})
			backendtest.Must(t, err)
			parsed, err := parser.Parse(keyIDsLast(args))
			if err != nil {
				t.Errorf("%q: %v", args, err)
			} else if parsed.Command() != "signing-keys remove <id>" || c.SigningKeys.Remove.ID != id {
				t.Errorf("%q: %s with the id %q", args, parsed.Command(), c.SigningKeys.Remove.ID)
			}
			if slices.Contains(args, "--issuer") && c.Issuer != "https://tollgate.test" {
				t.Errorf("%q: the issuer is %q", args, c.Issuer)
			}
		}
	}
	// No flag looks like a key id.
	for _, flag := range (func() (all []string) {
		parser, err := kong.New(&commands{}, kong.Vars{"version": "test"})
		backendtest.Must(t, err)
		for _, flags := range parser.Model.AllFlags(false) {
			for _, f := range flags {
				all = append(all, "--"+f.Name)
			}
		}
		return all
	})() {
		if dashedKeyID.MatchString(flag) {
			t.Errorf("%s looks like a key's id", flag)
		}
	}
}
