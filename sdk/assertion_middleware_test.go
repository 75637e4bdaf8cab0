package tollgate_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

func TestRequireAssertion(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	good := f.good(sdktest.Claim("resource", "orders/42"))
	for name, c := range map[string]struct {
		header    []string
		status    int
		reason    string
		challenge string
	}{
		"none":               {nil, 401, "CREDENTIAL_MISSING", noToken},
		"an empty one":       {[]string{""}, 401, "CREDENTIAL_INVALID", badToken},
		"a bad one":          {[]string{"x"}, 401, "CREDENTIAL_INVALID", badToken},
		"two":                {[]string{good, good}, 401, "CREDENTIAL_INVALID", badToken},
		"a good one first":   {[]string{good, "x"}, 401, "CREDENTIAL_INVALID", badToken},
		"a good one last":    {[]string{"", good}, 401, "CREDENTIAL_INVALID", badToken},
		"expired":            {[]string{f.good(sdktest.ExpiresAt(f.now()))}, 401, "CREDENTIAL_EXPIRED", badToken},
		"another service's":  {[]string{f.good(sdktest.Claim("aud", "x"))}, 401, "WRONG_AUDIENCE", badToken},
		"another permission": {[]string{f.Assertion("alice", "profile:read")}, 403, "PERMISSION_MISSING", ""},
		"a wildcard":         {[]string{f.Assertion("alice", "orders:*")}, 403, "PERMISSION_MISSING", ""},
		"a longer one":       {[]string{f.Assertion("alice", "orders:read:all")}, 403, "PERMISSION_MISSING", ""},
		"none asked for":     {[]string{f.Assertion("alice", "")}, 403, "PERMISSION_MISSING", ""},
		"a public route's":   {[]string{f.Assertion("", "")}, 403, "PERMISSION_MISSING", ""},
		"a good one":         {[]string{good}, 200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			res, passed := f.ask("orders:read", c.header...)
			if res.StatusCode != c.status || passed != (c.status == 200) {
				t.Fatalf("status %d, passed %t, want %d", res.StatusCode, passed, c.status)
			}
			wantHeader(t, res.Header, "WWW-Authenticate", c.challenge)
			if passed {
				return
			}
			wantHeader(t, res.Header, "Content-Type", "application/json")
			var body struct {
				Code, Message string
				Details       []struct{ Debug struct{ Reason string } }
			}
			must(t, json.NewDecoder(res.Body).Decode(&body))
			if body.Message == "" || len(body.Details) != 1 || body.Details[0].Debug.Reason != c.reason {
				t.Errorf("body %+v, want the reason %s", body, c.reason)
			}
		})
	}
}

// TestAssertionAuthenticate: any permission will do, and none, but not anybody.
func TestAssertionAuthenticate(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	found := ""
	h := f.Authenticate(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		found = tollgate.FromContext(r.Context()).Username
	}))
	for assertion, want := range map[string]int{
		f.good(): 200, f.Assertion("alice", "profile:read"): 200, f.Assertion("alice", ""): 200,
		f.Assertion("", ""): 403, f.Token("alice"): 401, "": 401,
	} {
		found = ""
		r := httptest.NewRequest("GET", "/me", nil)
		r.Header.Set(tollgate.AssertionHeader, assertion)
		if res := answer(h, r); res.StatusCode != want || (found == "alice") != (want == 200) {
			t.Errorf("status %d for %q, want %d", res.StatusCode, found, want)
		}
	}
}

func TestRequireAssertionWithoutPermissionPanics(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	f.RequireAssertion("")
}
