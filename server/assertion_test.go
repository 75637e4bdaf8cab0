package main_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/tollgatehq/tollgate/internal/jose"
	sdk "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

var listening = regexp.MustCompile(`listening on (http://\S+)`)

// python finds the program that tests run Python with.
func python() (string, error) {
	file, err := exec.LookPath(cmp.Or(os.Getenv("TOLLGATE_TEST_PYTHON"), "python3"))
	if err != nil {
		return "", fmt.Errorf("install Python (Debian: apt-get install python3), or name it in TOLLGATE_TEST_PYTHON: %w", err)
	}
	return file, nil
}

// TestAssertions has the assertions of a real Tollgate, of every algorithm, read
// by the SDK, which needs no credential for it, and by the example in Python, and
// refused where they do not belong.
func TestAssertions(t *testing.T) {
	t.Parallel()
	for _, algorithm := range jose.Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			const issuer, audience = "https://tollgate.test", "orders"
			s := serve(t, t.TempDir(), "TOLLGATE_ADMIN_PASSWORD="+adminPassword, "TOLLGATE_ISSUER="+issuer, "TOLLGATE_SIGNING_ALGORITHM="+algorithm)
			s.Token = s.Login(t, "admin", adminPassword).Str("accessToken")
			key := s.NewService(t, "edge")
			s.Post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read", "profile:read"}})
			id := s.NewUser(t, "alice", "a password of alice", "clerk")
			alice := s.SignedIn(t, "alice", "a password of alice")
			s.Post(t, "/v1/routes", object{"name": "menu", "path": "/menu", "public": true})
			ask := func(as apitest.Client, query string, header ...string) string {
				t.Helper()
				a := as.Call(t, "GET", "/v1/forward-auth"+query, nil, append(header, "X-Tollgate-Key", key)...).Want(t, http.StatusOK)
				return a.Header.Get(sdk.AssertionHeader)
			}
			of := func(permission string) string {
				return ask(alice, "?permission="+permission+"&resource=orders/42&audience="+audience)
			}

			client, err := sdk.New(s.URL)
			backendtest.Must(t, err)
			verifier, err := sdk.NewAssertionVerifier(client, sdk.AssertionConfig{Issuer: issuer, Audience: audience})
			backendtest.Must(t, err)
			t.Cleanup(verifier.Close)
			verify := func(assertion string) *sdk.Assertion {
				t.Helper()
				a, err := verifier.Verify(t.Context(), assertion)
				backendtest.Must(t, err)
				return a
			}
			a := verify(of("orders:read"))
			p := a.Principal
			if p.UserID != id || p.Username != "alice" || p.Service || !slices.Equal(p.Roles, []string{"clerk"}) || p.SessionID == "" ||
				a.Permission != "orders:read" || a.Resource != "orders/42" || a.Route != "" || a.RequestID == "" || a.RolesOmitted {
				t.Errorf("%+v of %+v", a, p)
			}
			a = verify(ask(s.As(""), "?authenticated=true&audience="+audience, "X-Api-Key", key))
			if p := a.Principal; !p.Service || p.Username != "edge" || p.APIKeyID == "" || p.SessionID != "" || a.Permission != "" {
				t.Errorf("%+v of %+v", a, p)
			}
			a = verify(ask(s.As(""), "?audience="+audience, "X-Forwarded-Method", "GET", "X-Forwarded-Host", "shop.test", "X-Forwarded-Uri", "/menu"))
			if a.Principal != nil || a.Permission != "" || a.Route != "menu" {
				t.Errorf("public: %+v", a)
			}

			for name, c := range map[string]struct {
				token  string
				reason sdk.Reason
			}{
				"another service's": {ask(alice, "?permission=orders:read&audience=profiles"), sdk.ReasonWrongAudience},
				"the server's own":  {ask(alice, "?permission=orders:read"), sdk.ReasonWrongAudience},
				"an access token":   {alice.Token, sdk.ReasonCredentialInvalid},
			} {
				_, err := verifier.Verify(t.Context(), c.token)
				if denied, ok := errors.AsType[*sdk.DeniedError](err); !ok || denied.Reason != c.reason {
					t.Errorf("%s: %v, want %s", name, err, c.reason)
				}
			}
			s.As(ask(alice, "?permission=orders:read")).Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
			if a := s.Post(t, "/v1/auth/verify", object{"accessToken": ask(alice, "?permission=orders:read")}); a.Str("reason") != "REASON_CREDENTIAL_INVALID" {
				t.Errorf("Verify takes an assertion: %s", a.Raw)
			}

			if algorithm != jose.EdDSA {
				return // the example verifies no other
			}
			file, err := filepath.Abs("../sdk/examples/upstream/upstream.py")
			backendtest.Must(t, err)
			example := run(t, python, t.TempDir(), []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, "", "-B", file,
				"--issuer", issuer, "--audience", audience, "--permission", "orders:read", "--jwks", s.URL+"/.well-known/jwks.json", "--listen", "127.0.0.1:0")
			orders := apitest.New(t, example.says(t, listening)[1])
			got := orders.Call(t, "GET", "/orders/42", nil, sdk.AssertionHeader, of("orders:read")).Want(t, http.StatusOK)
			if got.Str("path") != "/orders/42" || got.Str("assertion", "username") != "alice" || got.Str("assertion", "sub") != id {
				t.Errorf("the example received %s", got.Raw)
			}
			orders.Call(t, "GET", "/orders/42", nil, sdk.AssertionHeader, of("profile:read")).Want(t, http.StatusForbidden)
			orders.Call(t, "GET", "/orders/42", nil, sdk.AssertionHeader, alice.Token).Want(t, http.StatusUnauthorized)
			orders.Call(t, "GET", "/orders/42", nil).Want(t, http.StatusUnauthorized)
		})
	}
}
