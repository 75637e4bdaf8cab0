package limits

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestWildcardOverrides(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.create(Limit{Name: "tenants", Subject: SubjectCustom, ContextKey: "tenant", Rate: 1, Overrides: []Override{
			{Key: "*", Rate: 2}, {Key: "acme-*", Rate: 3}, {Key: "acme-eu-*", Rate: 4}, {Key: "acme-eu-1", Rate: 5},
		}})
		for key, want := range map[string]int64{
			"": 2, "other": 2, "acme": 2, "acme-": 3, "acme-us-1": 3, "acme-e": 3, "acme-eu-": 4, "acme-eu-2": 4, "acme-eu-1": 5, "acme-eu-11": 4, "ACME-eu-1": 2,
		} {
			backendtest.Equal(t, i.check("tenants", key, 1, true).Limits[0].Limit, want, "limit of %q", key)
		}
		// Each key has a count of its own.
		i.check("tenants", "acme-a", 3, false)
		i.wantRemaining("tenants", "acme-a", 0, "of the key that took all")
		i.wantRemaining("tenants", "acme-b", 3, "of another key of the same override")

		i.create(Limit{Name: "addresses", Subject: SubjectIP, Rate: 1, Overrides: []Override{
			{Key: "192.0.2.9/24", Rate: 2}, {Key: "192.0.0.0/16", Rate: 3}, {Key: "192.0.2.7", Rate: 4}, {Key: "2001:db8::/32", Rate: 5}, {Key: "2001:db8:1:2::/64", Rate: 6},
		}})
		for key, want := range map[string]int64{
			"192.0.2.1": 2, "192.0.3.1": 3, "192.0.2.7": 4, "192.1.0.0": 1, "2001:db8:5::1": 5, "2001:db8:1:2::5": 6, "2001:db9::1": 1, "::ffff:192.0.2.1": 2,
		} {
			backendtest.Equal(t, i.check("addresses", key, 1, true).Limits[0].Limit, want, "limit of %q", key)
			got := i.take(Request{IP: netip.MustParseAddr(key), Only: []Subject{SubjectIP}})
			backendtest.Equal(t, got.Limits[0].Limit, want, "limit of a call from %q", key)
		}
		backendtest.Equal(t, i.get("addresses").Overrides[0].Key, "192.0.2.0/24", "a network as it is kept")
	})
}

func TestWildcardsThatStandForNothing(t *testing.T) {
	t.Parallel()
	i := onSQLite(t, nil)
	for _, c := range []struct {
		subject Subject
		key     string
	}{
		{SubjectUser, "u*"}, {SubjectUser, "*"}, {SubjectAPIKey, "k*"}, {SubjectGlobal, "*"}, {SubjectUserIP, "u*@192.0.2.1"}, {SubjectIP, "192.0.2.*"}, {SubjectIP, "*"},
		{SubjectIP, "::ffff:192.0.2.0/100"}, {SubjectIP, "2001:db8::/65"}, {SubjectUserIP, "u@192.0.2.0/24"},
		{SubjectCustom, "a*b"}, {SubjectCustom, "**"}, {SubjectCustom, "a**"},
	} {
		l := Limit{Name: "few", Subject: c.subject, Permission: "tests:*", Rate: 1, Period: minute, Overrides: []Override{{Key: c.key, Rate: 2}}}
		if c.subject == SubjectCustom {
			l.ContextKey = "tenant"
		}
		_, _, err := i.Create(i.system(), l)
		f := faulttest.Want(t, err, fault.Invalid, "INVALID_FIELD")
		if !strings.HasPrefix(f.Message, "overrides[0].key: ") {
			t.Errorf("%s %q: %s", c.subject, c.key, f.Message)
		}
	}
}

// TestWildcardModel compares with the longest of all that fit.
func TestWildcardModel(t *testing.T) {
	t.Parallel()
	text := func() string {
		var b strings.Builder
		for range rand.IntN(5) {
			b.WriteByte("ab"[rand.IntN(2)])
		}
		return b.String()
	}
	for range 2000 {
		l := Limit{Name: "few", Subject: SubjectCustom, Rate: 1_000_000}
		seen := map[string]bool{}
		for n := range rand.IntN(8) {
			key := text() + "*"[:rand.IntN(2)]
			if !seen[key] {
				l.Overrides = append(l.Overrides, Override{Key: key, Rate: int64(n) + 1})
			}
			seen[key] = true
		}
		r := compile([]Limit{l}).list[0]
		key, want, longest := text(), l.Rate, -1
		for _, o := range l.Overrides {
			switch prefix, wild := strings.CutSuffix(o.Key, "*"); {
			case !wild && o.Key == key:
				want, longest = o.Rate, 1000
			case wild && strings.HasPrefix(key, prefix) && len(prefix) > longest:
				want, longest = o.Rate, len(prefix)
			}
		}
		backendtest.Equal(t, r.match(key, 1).Rate, want, "rate of %q with %s", key, fmt.Sprint(l.Overrides))
	}
}
