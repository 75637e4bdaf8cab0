package sdktest_test

import (
	"testing"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/conditions"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// TestGrants: the fake decides by grants as Tollgate does.
func TestGrants(t *testing.T) {
	t.Parallel()
	const mine = `resource.attributes.owner == principal.attributes.name`
	for name, c := range map[string]struct {
		grants []sdktest.Grant
		reason tollgate.Reason
		by     string
	}{
		"an allow":            {[]sdktest.Grant{{Permission: "docs:*"}}, tollgate.ReasonOK, ""},
		"a true condition":    {[]sdktest.Grant{{Permission: "docs:*", Condition: mine}}, tollgate.ReasonOK, "author: allow docs:* if " + mine},
		"a false condition":   {[]sdktest.Grant{{Permission: "docs:*", Condition: "false"}}, tollgate.ReasonConditionFalse, "author: allow docs:* if false"},
		"one that fails":      {[]sdktest.Grant{{Permission: "docs:*", Condition: `context.x == "y"`}}, tollgate.ReasonConditionFailed, `author: allow docs:* if context.x == "y"`},
		"a deny":              {[]sdktest.Grant{{Permission: "docs:*"}, {Permission: "docs:read", Deny: true}}, tollgate.ReasonDeniedByGrant, "author: deny docs:read"},
		"a deny that is true": {[]sdktest.Grant{{Permission: "docs:*"}, {Permission: "*", Condition: mine, Deny: true}}, tollgate.ReasonDeniedByGrant, "author: deny * if " + mine},
		"a deny that fails":   {[]sdktest.Grant{{Permission: "docs:*"}, {Permission: "*", Condition: "nonsense", Deny: true}}, tollgate.ReasonConditionFailed, "author: deny * if nonsense"},
		"a deny of another":   {[]sdktest.Grant{{Permission: "docs:*"}, {Permission: "bills:*", Deny: true}}, tollgate.ReasonOK, ""},
	} {
		for _, with := range []bool{true, false} {
			var opts []sdktest.Option
			if with {
				opts = append(opts, sdktest.WithConditions(conditions.Evaluator()))
			}
			s := newServer(t, opts...)
			s.SetRole("author")
			s.SetGrants("author", c.grants...)
			s.SetUser(sdktest.User{Name: "bob", Roles: []string{"author"}, Attributes: map[string]any{"name": "b"}})
			d, err := s.Client().Authorize(t.Context(), tollgate.AuthorizeRequest{
				Credential: s.Token("bob"), Permission: "docs:read", ResourceAttributes: map[string]any{"owner": "b"},
			})
			switch {
			case err != nil:
				t.Fatal(err)
			case with && (d.Reason != c.reason || d.Grant != c.by):
				t.Errorf("%s: %s by %q, want %s by %q", name, d.Reason, d.Grant, c.reason, c.by)
			case !with && c.grants[len(c.grants)-1].Condition != "" && d.Reason != tollgate.ReasonConditionFailed:
				t.Errorf("%s, without an evaluator: %s", name, d.Reason)
			}
		}
	}
}
