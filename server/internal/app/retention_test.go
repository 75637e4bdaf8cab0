package app

import (
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

func TestAge(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "36h": 36 * time.Hour, "90d": 90 * 24 * time.Hour, "2y": 730 * 24 * time.Hour, "200y": maxAge,
		"": -1, "d": -1, "-1d": -1, "1.5d": -1, "201y": -1, "99999999999d": -1, "90": -1, "1w": -1,
	} {
		var a Age
		err := a.UnmarshalText([]byte(text))
		if (err != nil) != (want < 0) || want >= 0 && time.Duration(a) != want {
			t.Errorf("%q: %s, %v; want %s", text, time.Duration(a), err, want)
		}
	}
}

// Flags that are wrong are refused with what is wrong about them.
func TestRetentions(t *testing.T) {
	t.Parallel()
	day := Age(24 * time.Hour)
	got, err := Config{AuditRetention: 730 * day, RetentionFor: []string{"auth.*=90d", "access.denied=30d", "role.*=0"}}.retentions()
	backendtest.Must(t, err)
	backendtest.Equal(t, got, audit.Retentions{Default: 2 * 365 * 24 * time.Hour, For: map[string]time.Duration{
		"auth.*": 90 * 24 * time.Hour, "access.denied": 30 * 24 * time.Hour, "role.*": 0,
	}}, "retentions")
	for want, c := range map[string]Config{
		"--audit-retention must be 0, to keep":                               {AuditRetention: day - 1},
		"--audit-retention-for \"auth.*\" must be an action and for how":     {RetentionFor: []string{"auth.*"}},
		"--audit-retention-for names \"auth.*\" twice":                       {RetentionFor: []string{"auth.*=90d", "auth.*=90d"}},
		"--audit-retention-for auth.*: \"90\" must be a time":                {RetentionFor: []string{"auth.*=90"}},
		"--audit-retention-for: auth.* must be 0, to keep":                   {RetentionFor: []string{"auth.*=1h"}},
		"--audit-retention-for: \"*\" is neither an action":                  {RetentionFor: []string{"*=30d"}},
		"--audit-retention-for: \"auth*\" is neither an action":              {RetentionFor: []string{"auth*=30d"}},
		"--audit-retention-for: \"\" is neither an action":                   {RetentionFor: []string{"=30d"}},
		"--audit-retention-for: \"tollgate.*\" would delete events of toll":  {RetentionFor: []string{"tollgate.*=30d"}},
		"--audit-retention-for: \"tollgate.audit_retention\" would delete e": {RetentionFor: []string{"tollgate.audit_retention=30d"}},
	} {
		if _, err := c.retentions(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: %v, want %s", c.RetentionFor, err, want)
		}
	}
}
