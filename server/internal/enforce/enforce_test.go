package enforce

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/routes"
)

// A route lets pass whom it names, and a rule without a name of its own has one
// that limits match.
func TestRuleOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		route routes.Route
		want  decision.Rule
	}{
		{routes.Route{}, decision.Rule{}}, // nobody
		{routes.Route{Permission: "orders:read"}, decision.Rule{Permission: "orders:read"}},
		{routes.Route{Authenticated: true}, decision.Rule{AnyUser: true, Action: contract.ActionAuthenticated}},
		{routes.Route{Authenticated: true, Permission: "a:b"}, decision.Rule{AnyUser: true, Action: "a:b"}},
		{routes.Route{Public: true}, decision.Rule{Public: true, Action: contract.ActionPublic}},
		{routes.Route{Public: true, Permission: "a:b"}, decision.Rule{Public: true, Action: "a:b"}},
	} {
		backendtest.Equal(t, ruleOf(&test.route), test.want, "%+v", test.route)
	}
}

func TestCredentialOf(t *testing.T) {
	t.Parallel()
	bad, key := auth.Credential{APIKey: "tg_"}, "tg_0123"
	for _, test := range []struct {
		authorization, apiKey []string
		want                  auth.Credential
	}{
		{nil, nil, auth.Credential{}},
		{[]string{"Bearer a.b.c"}, nil, auth.Credential{AccessToken: "a.b.c"}},
		{[]string{"bearer " + key}, nil, auth.Credential{APIKey: key}},
		{nil, []string{key}, auth.Credential{APIKey: key}},
		{[]string{""}, nil, bad},
		{nil, []string{""}, bad},
		{nil, []string{"a.b.c"}, bad},
		{nil, []string{key, key}, bad},
		{[]string{"Bearer a.b.c"}, []string{key}, bad},
		{[]string{""}, []string{key}, bad},
		{[]string{"Bearer a.b.c", "Bearer a.b.c"}, nil, bad},
		{[]string{"Bearer a.b.c, Bearer d.e.f"}, nil, bad},
		{[]string{"Basic YTpi"}, nil, bad},
	} {
		backendtest.Equal(t, CredentialOf(test.authorization, test.apiKey), test.want, "%q %q", test.authorization, test.apiKey)
	}
}

func TestIsIdentity(t *testing.T) {
	t.Parallel()
	for _, name := range append(IdentityNames(),
		"tollgate-principal", "TOLLGATE-ASSERTION", "Tollgate_Principal", "tollgate_assertion", "Tollgate-Anything", "X-Tollgate-Key", "X_Tollgate_Key",
		"REMOTE_USER", "remote-user", "X-Remote-User", "Remote-Name", "Remote_Groups", "X_Auth_Request_User", "X-Auth-Request-Email", "X-Forwarded-User", "x_forwarded_groups",
	) {
		if !IsIdentity(name) {
			t.Errorf("%s reaches the service", name)
		}
	}
	for _, name := range []string{"Authorization", "X-Forwarded-For", "X-Forwarded-Host", "Accept", "X-Request-Id", "Cookie", "Tollgate", "Remote", "My-Remote-User"} {
		if IsIdentity(name) {
			t.Errorf("%s is held back", name)
		}
	}
}

func TestDescribedIsBoundedText(t *testing.T) {
	t.Parallel()
	long := described(Request{Method: "GET", Host: "a", Path: "/" + strings.Repeat("é", 200)})
	if len(long) > maxResource || len(long) < maxResource-1 || !utf8.ValidString(long) {
		t.Errorf("%d bytes: %q", len(long), long)
	}
	backendtest.Equal(t, described(Request{Method: "GET", Host: "a.example", Path: "/orders/1"}), "GET a.example/orders/1", "short")
}
