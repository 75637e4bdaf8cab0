package app

import (
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// A password that Redis refuses is said at the start, not at the first sign-in;
// a Redis that is down lets the start go on.
func TestRedisPassword(t *testing.T) {
	t.Parallel()
	client, _ := backendtest.Redis(t)
	const user = "tollgate-test-of-passwords"
	backendtest.Must(t, client.Do(t.Context(), "ACL", "SETUSER", user, "reset", "on", ">right", "~*", "&*", "+@all").Err())
	t.Cleanup(func() { client.Do(t.Context(), "ACL", "DELUSER", user) })
	u, err := url.Parse(backendtest.RedisURL(t))
	backendtest.Must(t, err)
	opens := func(address string) error {
		config := testConfig(backendtest.SQLiteURL(t))
		config.RedisURL = address
		a, err := Open(t.Context(), config, clock.Real(), Out{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		return a.Close()
	}
	u.User = url.UserPassword(user, "hunter2")
	if err := opens(u.String()); err == nil || !strings.Contains(err.Error(), "refuses the user or password") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("with a wrong password: %v", err)
	}
	u.User = url.UserPassword(user, "right")
	if err := opens(u.String()); err != nil {
		t.Errorf("with the right one: %v", err)
	}
	if err := opens("redis://127.0.0.1:1"); err != nil {
		t.Errorf("without a Redis: %v", err)
	}
}
