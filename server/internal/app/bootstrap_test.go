package app

import (
	"bytes"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// TestFirstPasswordMustChange: a made-up password that went to a log is good
// for one thing, one that a person saw or gave stays.
func TestFirstPasswordMustChange(t *testing.T) {
	t.Parallel()
	for engine, url := range map[string]func(testing.TB) string{"sqlite": backendtest.SQLiteURL, "postgres": backendtest.PostgreSQLURL} {
		for what, test := range map[string]struct {
			given    string
			terminal bool
			want     bool
		}{
			"made up, in a log":        {"", false, true},
			"made up, on a terminal":   {"", true, false},
			"given, without one":       {adminPassword, false, false},
			"given, with one to greet": {adminPassword, true, false},
		} {
			config := testConfig(url(t))
			config.AdminPassword = test.given
			var shown bytes.Buffer
			a, err := Open(t.Context(), config, clock.Real(), Out{Stdout: &shown, Log: slog.New(slog.DiscardHandler), Terminal: test.terminal})
			backendtest.Must(t, err)
			password, err := a.BootstrapAdmin(t.Context())
			if engine == "postgres" && test.want { // it is not made at all
				if err == nil || a.Close() != nil {
					t.Error("with PostgreSQL a password went to a log")
				}
				continue
			}
			if err != nil || (password == "") != (test.given != "") {
				t.Fatalf("%s: %q, %v", what, password, err)
			}
			admin, err := a.Auth.FindUser(t.Context(), FirstAdmin)
			if err != nil || admin.PasswordChangeRequired != test.want {
				t.Errorf("%s: must change %t (%v), want %t", what, admin.PasswordChangeRequired, err, test.want)
			}
			a.PrintWelcome(Addresses{API: &net.TCPAddr{IP: net.IPv4zero, Port: 1}}, password)
			if told := strings.Contains(shown.String(), "must be changed"); told != test.want {
				t.Errorf("%s: the greeting is %s", what, &shown)
			}
			if told := regexp.MustCompile(`users/\$ID/password`).MatchString(shown.String()); told != test.want {
				t.Errorf("%s: the greeting is %s", what, &shown)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
