package tollgate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// assertions is a verifier of the assertions of its fixture.
type assertions struct {
	*fixture
	*tollgate.AssertionVerifier
}

// newAssertions returns a warm one, whose client has no credential.
func newAssertions(t testing.TB) assertions {
	t.Helper()
	a := startAssertions(t, newFixture(t))
	must(t, a.Wait(t.Context()))
	return a
}

func startAssertions(t testing.TB, f *fixture) assertions {
	t.Helper()
	client, err := tollgate.New(f.URL, f.options()...)
	must(t, err)
	v, err := tollgate.NewAssertionVerifier(client, tollgate.AssertionConfig{Issuer: sdktest.Issuer, Audience: sdktest.Audience})
	must(t, err)
	t.Cleanup(v.Close)
	return assertions{f, v}
}

// good returns an assertion that passes, unless opts change that.
func (a assertions) good(opts ...sdktest.TokenOption) string {
	return a.Assertion("alice", "orders:read", opts...)
}

// want checks the answer about an assertion, by the verifier and by the
// middleware.
func (a assertions) want(t *testing.T, assertion string, reason tollgate.Reason) {
	t.Helper()
	got, err := a.Verify(t.Context(), assertion)
	denied, refused := errors.AsType[*tollgate.DeniedError](err)
	switch {
	case reason == tollgate.ReasonOK && (err != nil || got == nil):
		t.Errorf("error %v, want none", err)
	case reason != tollgate.ReasonOK && (!refused || denied.Reason != reason || got != nil):
		t.Errorf("%+v, error %v, want %s", got, err, reason)
	}
	res, passed := a.ask("orders:read", assertion)
	if want := map[bool]int{true: 200, false: 401}[reason == tollgate.ReasonOK]; res.StatusCode != want || passed != (want == 200) {
		t.Errorf("status %d, passed %t, want %d", res.StatusCode, passed, want)
	}
}

// ask sends a request with these assertions to a handler that needs permission.
func (a assertions) ask(permission string, header ...string) (res *http.Response, passed bool) {
	h := a.RequireAssertion(permission)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed = true
		fmt.Fprint(w, tollgate.FromContext(r.Context()).Username, " ", tollgate.AssertionFromContext(r.Context()).Resource)
	}))
	r := httptest.NewRequest("GET", "/orders/42", nil)
	for _, value := range header {
		r.Header.Add(tollgate.AssertionHeader, value)
	}
	return answer(h, r), passed
}

func TestAssertionVerifier(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	got, err := f.Verify(t.Context(), f.good(sdktest.Claim("resource", "orders/42"), sdktest.Claim("route", "get-order"),
		sdktest.Claim("sid", "s-1"), sdktest.Claim("jti", "req-1"), sdktest.Claim("of a later version", 1)))
	must(t, err)
	p := got.Principal
	if p.UserID != alicesUser || p.Username != "alice" || p.Service || !slices.Equal(p.Roles, []string{"clerk"}) || p.SessionID != "s-1" ||
		p.APIKeyID != "" || p.Scopes != nil || !p.ExpiresAt.Equal(f.now().Add(time.Minute)) {
		t.Errorf("principal %+v", p)
	}
	if got.Permission != "orders:read" || got.Resource != "orders/42" || got.Route != "get-order" || got.RequestID != "req-1" || got.RolesOmitted ||
		!got.IssuedAt.Equal(f.now()) || !got.ExpiresAt.Equal(p.ExpiresAt) {
		t.Errorf("%+v", got)
	}

	f.SetUser(sdktest.User{Name: "robot", Service: true})
	got, err = f.Verify(t.Context(), f.Assertion("robot", "a:b", sdktest.FromAPIKey("k-1"), sdktest.Claim("scope", "a:* orders:read"),
		sdktest.Claim("roles", nil), sdktest.Claim("roles_omitted", true)))
	must(t, err)
	p = got.Principal
	if !p.Service || p.APIKeyID != "k-1" || p.SessionID != "" || !slices.Equal(p.Scopes, []string{"a:*", "orders:read"}) ||
		!got.RolesOmitted || p.Roles != nil {
		t.Errorf("%+v of %+v", got, p)
	}

	got, err = f.Verify(t.Context(), f.Assertion("", "", sdktest.Claim("route", "menu")))
	must(t, err)
	if got.Principal != nil || got.Permission != "" || got.Route != "menu" {
		t.Errorf("public: %+v", got)
	}
}

// TestAssertionVerifierAsksNothing: it needs no credential, and no call for a
// request.
func TestAssertionVerifierAsksNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.intercept(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != keysPath || r.Header.Get("Authorization") != "" {
			t.Errorf("asked for %s with %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		return f.next.RoundTrip(r)
	})
	a := startAssertions(t, f)
	must(t, a.Wait(t.Context()))
	before := f.Calls("")
	for range 100 {
		a.want(t, a.good(), tollgate.ReasonOK)
		a.want(t, a.Token("alice"), tollgate.ReasonCredentialInvalid)
	}
	if n := f.Calls("") - before; n != 0 {
		t.Errorf("Tollgate was asked %d times", n)
	}
}

func TestAssertionRefused(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	good := f.good()
	f.want(t, good, tollgate.ReasonOK)
	body := strings.Split(good, ".")
	for name, bad := range map[string]string{
		"no token": "alice", "a key": "tg_alice", "unsigned": body[0] + "." + body[1] + ".", "another text": good + "x", "two in one": good + "," + good,
		"a space": " " + good, "another body": body[0] + "." + strings.Split(f.good(sdktest.Claim("sub", "root")), ".")[1] + "." + body[2],
		"oversized":    f.good(sdktest.Claim("resource", strings.Repeat("r", jose.MaxTokenSize))),
		"access token": f.Token("alice"),
		"an access token with all claims": f.Token("alice", sdktest.Claim("permission", "orders:read"), sdktest.Claim("kind", "person"),
			sdktest.Claim("roles", []string{}), sdktest.ExpiresAt(f.now().Add(time.Minute))),
	} {
		t.Run(name, func(t *testing.T) { f.want(t, bad, tollgate.ReasonCredentialInvalid) })
	}
	for name, values := range map[string][]any{
		"iss": {"https://tollgate.test/", "", nil, 1}, "sub": {"", nil, 1, "anonymous"}, "aud": {"", nil, 1, []string{sdktest.Audience}}, "jti": {"", nil, 1},
		"exp": {"", nil, 0, f.now().Unix(), f.now().Add(time.Minute + time.Second).Unix(), f.now().Add(time.Hour).Unix()},
		"iat": {nil, 0, f.now().Add(-time.Second).Unix(), "1"}, "nbf": {f.now().Add(time.Hour).Unix(), "1"},
		"username": {"", 1}, "kind": {"", nil, 1, "admin", "anonymous", "Person"},
		"roles": {nil, "clerk", []int{1}, []string{""}, slices.Repeat([]string{"r"}, 1001)}, "roles_omitted": {true, "true", 1},
		"scope": {"", " ", []string{"orders:read"}}, "permission": {"", 1}, "resource": {"", 1}, "route": {"", 1}, "sid": {"", 1}, "api_key_id": {"", 1},
	} {
		for _, value := range values {
			t.Run(fmt.Sprintf("%s %.30v", name, value), func(t *testing.T) {
				f.want(t, f.good(sdktest.Claim(name, value)), tollgate.ReasonCredentialInvalid)
			})
		}
	}
	for name, value := range map[string]any{
		"sub": alicesUser, "username": "alice", "sid": "s-1", "api_key_id": "k-1", "permission": "orders:read", "roles": []string{"clerk"}, "scope": "a:b",
	} {
		t.Run("public with "+name, func(t *testing.T) {
			f.want(t, f.Assertion("", "", sdktest.Claim(name, value)), tollgate.ReasonCredentialInvalid)
		})
	}
}

// TestAssertionAudience: an assertion for one service is refused by every other.
func TestAssertionAudience(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	f.want(t, f.good(sdktest.Claim("aud", "profiles")), tollgate.ReasonWrongAudience)
	f.want(t, f.good(sdktest.Claim("aud", sdktest.Audience+" ")), tollgate.ReasonWrongAudience)
}

// TestAssertionTime: its end has no leeway, and its beginning that of the clocks.
func TestAssertionTime(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	assertion := f.good()
	f.add(-jose.ClockSkew)
	f.want(t, assertion, tollgate.ReasonOK)
	f.add(-time.Second)
	f.want(t, assertion, tollgate.ReasonCredentialInvalid) // of the future
	f.add(time.Second + jose.ClockSkew + jose.AssertionTTL - time.Nanosecond)
	f.want(t, assertion, tollgate.ReasonOK)
	f.add(time.Nanosecond)
	f.want(t, assertion, tollgate.ReasonCredentialExpired)
}

// assertion returns an assertion of alice whose header names a key, an algorithm
// and a type.
func (s signer) assertion(t *testing.T, algorithm, id, typ string, now time.Time) string {
	t.Helper()
	claims, err := json.Marshal(map[string]any{
		"iss": sdktest.Issuer, "aud": sdktest.Audience, "sub": alicesUser, "jti": "t-1", "kind": "person", "roles": []string{},
		"permission": "orders:read", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
	must(t, err)
	assertion, err := jose.Encode(jose.EncodeHeader(algorithm, id, typ), claims, s.private)
	must(t, err)
	return assertion
}

// TestAssertionAlgorithm: the key alone chooses the algorithm, and the type must
// be an assertion's.
func TestAssertionAlgorithm(t *testing.T) {
	t.Parallel()
	var all []signer
	for _, algorithm := range jose.Algorithms() {
		all = append(all, newSigner(t, "key for "+algorithm, algorithm))
	}
	f := newFixture(t)
	f.replaceKeys().set(t, all...)
	a := startAssertions(t, f)
	must(t, a.Wait(t.Context()))
	for _, s := range all {
		a.want(t, s.assertion(t, s.algorithm, s.id, jose.TypeAssertion, f.now()), tollgate.ReasonOK)
		for _, typ := range []string{jose.TypeAccessToken, "JWT", "", "TOLLGATE-ASSERTION+JWT", "application/tollgate-assertion+jwt"} {
			a.want(t, s.assertion(t, s.algorithm, s.id, typ, f.now()), tollgate.ReasonCredentialInvalid)
		}
		for _, algorithm := range []string{"EdDSA", "ES256", "RS256", "HS256", "PS256", "none", "NONE", "eddsa"} {
			if algorithm != s.algorithm {
				a.want(t, s.assertion(t, algorithm, s.id, jose.TypeAssertion, f.now()), tollgate.ReasonCredentialInvalid)
			}
		}
		for _, other := range all {
			if other.id != s.id { // signed by one, names the other
				a.want(t, s.assertion(t, s.algorithm, other.id, jose.TypeAssertion, f.now()), tollgate.ReasonCredentialInvalid)
				a.want(t, s.assertion(t, other.algorithm, other.id, jose.TypeAssertion, f.now()), tollgate.ReasonCredentialInvalid)
			}
		}
		forger := newSigner(t, s.id, s.algorithm) // another key under its id
		a.want(t, forger.assertion(t, s.algorithm, s.id, jose.TypeAssertion, f.now()), tollgate.ReasonCredentialInvalid)
	}
}

// TestAssertionOfRemovedKey: what a key signed is refused when it left the key
// set, and so is what an unknown one did.
func TestAssertionOfRemovedKey(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	old := f.good(sdktest.Claim("iat", f.now().Add(jose.ClockSkew).Unix()), sdktest.ExpiresAt(f.now().Add(jose.ClockSkew+jose.AssertionTTL)))
	f.want(t, old, tollgate.ReasonOK)
	f.RemoveKey()
	young := f.good()
	f.want(t, young, tollgate.ReasonCredentialInvalid) // too soon to fetch
	f.add(5 * time.Second)
	f.want(t, young, tollgate.ReasonOK)
	f.want(t, old, tollgate.ReasonCredentialInvalid)
}

func TestAssertionWithoutKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.SetDown(true)
	a := startAssertions(t, f)
	wantNoAnswer := func() {
		t.Helper()
		if got, err := a.Verify(t.Context(), a.good()); !errors.Is(err, tollgate.ErrUnavailable) || got != nil {
			t.Errorf("%+v, error %v", got, err)
		}
		res, passed := a.ask("orders:read", a.good())
		if passed || res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("passed %t, status %d", passed, res.StatusCode)
		}
		wantHeader(t, res.Header, "Retry-After", "1")
	}
	wantNoAnswer()
	f.SetDown(false)
	f.add(5 * time.Second)
	a.want(t, a.good(), tollgate.ReasonOK)
	f.SetDown(true)
	f.add(time.Hour)
	a.want(t, a.good(), tollgate.ReasonOK) // with stale keys
	f.add(5 * time.Second)
	wantNoAnswer()
}

func TestNewAssertionVerifierRefuses(t *testing.T) {
	t.Parallel()
	client := newFixture(t).client(t)
	for name, config := range map[string]tollgate.AssertionConfig{
		"no issuer": {Audience: "a"}, "no audience": {Issuer: "i"},
		"too fresh keys": {Issuer: "i", Audience: "a", StaleKeys: time.Second}, "a negative StaleKeys": {Issuer: "i", Audience: "a", StaleKeys: -time.Hour},
	} {
		if v, err := tollgate.NewAssertionVerifier(client, config); err == nil || v != nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAssertionVerifierClose(t *testing.T) {
	t.Parallel()
	f := newAssertions(t)
	f.AssertionVerifier.Close()
	f.AssertionVerifier.Close()
	if got, err := f.Verify(t.Context(), f.good()); !errors.Is(err, tollgate.ErrUnavailable) || got != nil {
		t.Errorf("%+v, error %v", got, err)
	}
	cold := newFixture(t)
	cold.SetDown(true)
	a := startAssertions(t, cold)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if err := a.Wait(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
	a.AssertionVerifier.Close()
	if err := a.Wait(t.Context()); !errors.Is(err, tollgate.ErrUnavailable) {
		t.Errorf("Wait after Close: %v", err)
	}
}

func BenchmarkVerifyAssertion(b *testing.B) {
	f := newAssertions(b)
	assertion := f.good()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Verify(b.Context(), assertion); err != nil {
			b.Fatal(err)
		}
	}
}
