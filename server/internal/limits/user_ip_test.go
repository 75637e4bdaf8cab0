package limits

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestUserIPLimit(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		made := i.create(Limit{
			Name: "l", Subject: SubjectUserIP, Permission: "a:b", Rate: 2,
			Overrides: []Override{{Key: "ann@example.com@2001:db8::9", Rate: 5}, {Key: "bob@::ffff:192.0.2.1", Rate: 3}},
		})
		want := []Override{{Key: "ann@example.com@2001:db8::/64", Rate: 5}, {Key: "bob@192.0.2.1", Rate: 3}}
		backendtest.Equal(t, made.Overrides, want, "overrides")
		got := i.get("l")
		if fmt.Sprint(got) != fmt.Sprint(made) || got.Subject != SubjectUserIP || got.ContextKey != "" {
			t.Errorf("read\n%+v, made\n%+v", got, made)
		}
		i.update("l", Edit{Description: new("changed")})
		r := i.take(Request{Permission: "a:b", UserID: "carl", IP: netip.MustParseAddr("2001:db8::1")})
		if r.Limits[0].Limit != 2 || r.Limits[0].Subject != SubjectUserIP {
			t.Errorf("took %+v", r)
		}
		i.wantRemaining("l", "carl@2001:db8::2", 1, "under another form of the key")
		i.must(i.ResetKey(i.system(), "l", "carl@2001:db8::3"))
		i.wantRemaining("l", "carl@2001:db8::2", 2, "after the reset")
		i.wantRemaining("l", "ann@example.com@2001:db8::8", 5, "with an override")
		for _, key := range []string{"ann", "@192.0.2.1", "ann@", "192.0.2.1@ann", "ann@192.0.2.0/24"} {
			_, _, err := i.Create(i.system(), Limit{Name: "bad", Subject: SubjectUserIP, Rate: 1, Period: minute,
				Permission: "a:b", Overrides: []Override{{Key: key, Rate: 1}}})
			faulttest.WantField(t, err, "overrides[0].key")
		}
	})
}

// TestUpgradeFromUserLimit: the schema of the version before, with data. What an operator
// changed about the built-in limit stays; else it is raised, because sign-ins
// are now counted at each address first. Servers of the version before, which
// may still run, read the new limit as one for each user.
func TestUpgradeFromUserLimit(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]bool{"as it came": false, "changed": true} {
		t.Run(name, func(t *testing.T) {
			backendtest.Databases(t, func(t *testing.T, db *database.DB) {
				steps, err := db.MigrationStatus(t.Context())
				backendtest.Must(t, err)
				back := len(steps) - 2 // to the version before
				backendtest.Must(t, faulttest.Err(db.MigrateDown(t.Context(), back)))
				const insert = `INSERT INTO limits (name, description, subject, permission, rate, period, burst, algorithm,
					mode, outage, context_key, overrides, builtin, created_at, updated_at)
					VALUES ('sign-in-per-user', '', 'user', 'tollgate:login', 10, 900000000, 10, 'backoff',
					'enforce', 'local', '', '[]', 1, 1, $1)`
				updated := 1
				if changed {
					updated = 2
				}
				backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), insert, updated)))
				backendtest.Must(t, faulttest.Err(db.MigrateUp(t.Context())))
				i := startOn(t, db, nil)
				i.must(i.EnsureBuiltins(t.Context()))
				l := i.get("sign-in-per-user")
				if want := map[bool]int64{false: 100, true: 10}[changed]; l.Rate != want || l.Burst != want || l.Period != 15*time.Minute {
					t.Errorf("after the upgrade: %+v", l)
				}
				var stored struct {
					Subject    string `db:"subject"`
					ContextKey string `db:"context_key"`
				}
				i.must(db.Get(t.Context(), &stored, `SELECT subject, context_key FROM limits WHERE name = 'sign-in-per-user-and-ip'`))
				if stored.Subject != string(SubjectUser) || stored.ContextKey != userAtIP {
					t.Errorf("the version before reads %+v", stored)
				}
				backendtest.Must(t, faulttest.Err(db.MigrateDown(t.Context(), back)))
				var left []string
				i.must(db.Select(t.Context(), &left, `SELECT name FROM limits WHERE context_key = 'ip'`))
				backendtest.Equal(t, left, nil, "limits after the way back")
			})
		})
	}
}
