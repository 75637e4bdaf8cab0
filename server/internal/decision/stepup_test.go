package decision

import (
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
)

func TestStepUp(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	factor, plain := []string{"pwd", "otp", "mfa"}, []string{"pwd"}
	both := StepUp{SecondFactorFor: []string{"administrator", "auditor"}, RecentSignIn: time.Hour}
	for name, test := range map[string]struct {
		policy StepUp
		who    caller.Principal
		want   caller.Reason
	}{
		"off":                   {StepUp{}, caller.Principal{Kind: caller.Person, Roles: []string{"administrator"}}, caller.ReasonOK},
		"a listed role":         {both, caller.Principal{Kind: caller.Person, Roles: []string{"x", "auditor"}, AMR: plain, AuthTime: now}, caller.ReasonSecondFactorRequired},
		"with the factor":       {both, caller.Principal{Kind: caller.Person, Roles: []string{"auditor"}, AMR: factor, AuthTime: now}, caller.ReasonOK},
		"another role":          {both, caller.Principal{Kind: caller.Person, Roles: []string{"administrators"}, AMR: plain, AuthTime: now}, caller.ReasonOK},
		"at the last moment":    {both, caller.Principal{Kind: caller.Person, AMR: plain, AuthTime: now.Add(-time.Hour)}, caller.ReasonOK},
		"too old":               {both, caller.Principal{Kind: caller.Person, AMR: plain, AuthTime: now.Add(-time.Hour - time.Second)}, caller.ReasonSignInRequired},
		"another clock":         {both, caller.Principal{Kind: caller.Person, AMR: plain, AuthTime: now.Add(time.Second)}, caller.ReasonOK},
		"a token of before":     {both, caller.Principal{Kind: caller.Person, Roles: []string{"administrator"}}, caller.ReasonSecondFactorRequired},
		"one without a time":    {both, caller.Principal{Kind: caller.Person, AMR: factor}, caller.ReasonSignInRequired},
		"a person's key":        {both, caller.Principal{Kind: caller.Person, Roles: []string{"administrator"}, APIKeyID: "k"}, caller.ReasonSecondFactorRequired},
		"a person's key, other": {both, caller.Principal{Kind: caller.Person, APIKeyID: "k"}, caller.ReasonSignInRequired},
		"a service":             {both, caller.Principal{Kind: caller.Service, Roles: []string{"administrator"}, APIKeyID: "k"}, caller.ReasonOK},
		"no kind":               {both, caller.Principal{Roles: []string{"administrator"}}, caller.ReasonSecondFactorRequired},
	} {
		if got := test.policy.judge(&test.who, now); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
