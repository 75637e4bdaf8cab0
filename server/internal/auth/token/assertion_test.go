package token

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func testAssertion() Assertion {
	return Assertion{
		Subject: "user-1", Username: "alice", Kind: "person", Roles: []string{"clerk", "viewer"},
		Permission: "orders:read", Resource: "orders/42", Route: "get-order", Audience: "orders",
		SessionID: "session-1", RequestID: "request-1", IssuedAt: issued,
	}
}

func anonymousAssertion() Assertion {
	return Assertion{Subject: Anonymous, Kind: Anonymous, Route: "menu", RequestID: "request-1", IssuedAt: issued}
}

func mustAssert(t testing.TB, k *Keys, a Assertion) string {
	t.Helper()
	token, err := k.SignAssertion(a)
	backendtest.Must(t, err)
	return token
}

// payloadOf is a token's second segment, decoded.
func payloadOf(t testing.TB, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	backendtest.Must(t, err)
	return string(raw)
}

func TestAssertionShape(t *testing.T) {
	t.Parallel()
	k := testSigner(t, clock.NewFake(issued))
	const head = `{"iss":"https://tollgate.test","sub":`
	const times = `"exp":1777863781,"iat":1777863721,"jti":"request-1",`
	for name, c := range map[string]struct {
		assertion Assertion
		want      string
	}{
		"a person": {testAssertion(), head + `"user-1","aud":"orders",` + times + `"username":"alice","kind":"person",` +
			`"roles":["clerk","viewer"],"permission":"orders:read","resource":"orders/42","route":"get-order","sid":"session-1"}`},
		"an API key": {
			Assertion{
				Subject: "user-2", Username: "robot", Kind: "service", Scopes: []string{"orders:*", "a:b"}, Permission: "orders:read",
				APIKeyID: "key-1", RequestID: "request-1", IssuedAt: issued.Add(time.Second - 1),
			},
			head + `"user-2","aud":"tollgate",` + times + `"username":"robot","kind":"service",` +
				`"roles":[],"scope":"orders:* a:b","permission":"orders:read","api_key_id":"key-1"}`,
		},
		"a public route": {anonymousAssertion(), head + `"anonymous","aud":"tollgate",` + times +
			`"kind":"anonymous","roles":[],"route":"menu"}`},
	} {
		token := mustAssert(t, k, c.assertion)
		if got := payloadOf(t, token); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
		header, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
		backendtest.Must(t, err)
		if want := `{"alg":"EdDSA","kid":"` + testKey(1).id + `","typ":"tollgate-assertion+jwt"}`; string(header) != want {
			t.Errorf("%s: header %s, want %s", name, header, want)
		}
	}
}

// TestAssertionIsNoAccessToken: whatever the key, and also with every claim of
// an access token, the type alone keeps one from passing for the other. Another
// library verifies the assertion with nothing but the key set.
func TestAssertionIsNoAccessToken(t *testing.T) {
	t.Parallel()
	for _, algorithm := range jose.Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			key := keyOf(t, algorithm)
			k := testSigner(t, clock.NewFake(issued), key)
			access, assertion := mustSign(t, k, testClaims()), mustAssert(t, k, testAssertion())
			k.expect(t, "the positive control", access, caller.ReasonOK)
			k.expect(t, "an assertion", assertion, caller.ReasonCredentialInvalid)
			for name, payload := range map[string]string{"an access token": payloadOf(t, access), "an assertion": payloadOf(t, assertion)} {
				retyped, err := jose.Encode(key.assertionHeader, []byte(payload), key.private)
				backendtest.Must(t, err)
				k.expect(t, "an assertion with the claims of "+name, retyped, caller.ReasonCredentialInvalid)
			}
			if parsed, ok := jose.Cut(assertion); !ok || func() bool { _, ok := parsed.ReadHeader(jose.TypeAccessToken); return ok }() {
				t.Error("the assertion's header is read as an access token's")
			}

			var set struct{ Keys []map[string]string }
			backendtest.Must(t, json.Unmarshal(k.JWKS(), &set))
			parser := jwt.NewParser(jwt.WithValidMethods([]string{algorithm}), jwt.WithStrictDecoding(),
				jwt.WithIssuer("https://tollgate.test"), jwt.WithAudience("orders"), jwt.WithExpirationRequired(),
				jwt.WithTimeFunc(func() time.Time { return issued }))
			read, err := parser.Parse(assertion, func(*jwt.Token) (any, error) { return publicOf(set.Keys[0]) })
			backendtest.Must(t, err)
			if read.Header["kid"] != set.Keys[0]["kid"] || read.Header["typ"] != "tollgate-assertion+jwt" {
				t.Errorf("header %v", read.Header)
			}
		})
	}
}

// TestAssertionOfManyRoles: an assertion stays short enough for a header, and
// says so when it leaves the roles out for that.
func TestAssertionOfManyRoles(t *testing.T) {
	t.Parallel()
	const most, longest = 100, 64 // of a user, and bytes of a name
	for _, algorithm := range jose.Algorithms() {
		k := testSigner(t, clock.NewFake(issued), keyOf(t, algorithm))
		for n := range most + 1 {
			a := testAssertion()
			a.Roles = slices.Repeat([]string{strings.Repeat("r", longest)}, n)
			token := mustAssert(t, k, a)
			var got struct {
				Roles   []string
				Omitted bool `json:"roles_omitted"`
			}
			text := payloadOf(t, token)
			backendtest.Must(t, json.Unmarshal([]byte(text), &got))
			if len(token) > 4<<10 || got.Omitted == strings.Contains(text, `"roles":`) || !got.Omitted && len(got.Roles) != n {
				t.Errorf("%s, %d roles: %d bytes, %d roles, omitted %t", algorithm, n, len(token), len(got.Roles), got.Omitted)
			}
			if fits := n <= 30; fits == got.Omitted && (n <= 30 || n >= 40) {
				t.Errorf("%s, %d roles: omitted %t", algorithm, n, got.Omitted)
			}
		}
	}
}

// TestAssertionOfTheLongestTexts: without scopes one always fits, whatever the
// names are made of.
func TestAssertionOfTheLongestTexts(t *testing.T) {
	t.Parallel()
	for _, letter := range []string{"a", "é", "<", "\U00010400"} {
		long := func(n int) string { return strings.Repeat(letter, n) }
		a := Assertion{
			Subject: strings.Repeat("u", 64), Username: long(128), Kind: "person", Roles: slices.Repeat([]string{strings.Repeat("r", 64)}, 100),
			Permission: strings.Repeat("p", 128), Resource: long(256), Route: strings.Repeat("r", 64), Audience: long(128),
			SessionID: strings.Repeat("s", 64), RequestID: strings.Repeat("q", 128), IssuedAt: issued,
		}
		for _, algorithm := range jose.Algorithms() {
			k := testSigner(t, clock.NewFake(issued), keyOf(t, algorithm))
			if token := mustAssert(t, k, a); !strings.Contains(payloadOf(t, token), `"roles_omitted":true`) {
				t.Errorf("%s of %q: %d bytes with roles", algorithm, letter, len(token))
			}
		}
	}
}

// TestAssertionOfManyScopes: scopes are never left out, so one with too many is
// refused.
func TestAssertionOfManyScopes(t *testing.T) {
	t.Parallel()
	k := testSigner(t, clock.NewFake(issued))
	a := testAssertion()
	for n := range 101 {
		a.Scopes = slices.Repeat([]string{strings.Repeat("s", 128)}, n)
		token, err := k.SignAssertion(a)
		switch {
		case n <= 40:
			backendtest.Must(t, err)
			if !strings.Contains(payloadOf(t, token), strings.Join(a.Scopes, " ")) {
				t.Errorf("%d scopes: not all are there", n)
			}
		case n >= 50:
			faulttest.Want(t, err, fault.Denied, "TOO_LARGE")
		}
	}
}

func TestAssertionNeedsWhatItSays(t *testing.T) {
	t.Parallel()
	k := testSigner(t, clock.NewFake(issued))
	for i, change := range []func(*Assertion){
		func(a *Assertion) { a.Subject = "" }, func(a *Assertion) { a.RequestID = "" }, func(a *Assertion) { a.IssuedAt = time.Time{} },
		func(a *Assertion) { a.Kind = "" }, func(a *Assertion) { a.Kind = "admin" },
		func(a *Assertion) { a.Subject = Anonymous }, func(a *Assertion) { a.Kind = Anonymous },
	} {
		a := testAssertion()
		change(&a)
		if token, err := k.SignAssertion(a); err == nil {
			t.Errorf("change %d: signed %s", i, token)
		}
	}
	for i, change := range []func(*Assertion){
		func(a *Assertion) { a.Subject = "user-1" }, func(a *Assertion) { a.Username = "alice" },
		func(a *Assertion) { a.Permission = "orders:read" }, func(a *Assertion) { a.SessionID = "session-1" },
		func(a *Assertion) { a.APIKeyID = "key-1" }, func(a *Assertion) { a.Roles = []string{"clerk"} },
		func(a *Assertion) { a.Scopes = []string{"a:b"} },
	} {
		a := anonymousAssertion()
		change(&a)
		if token, err := k.SignAssertion(a); err == nil {
			t.Errorf("anonymous, change %d: signed %s", i, token)
		}
	}
	k.set.Store(newKeySet(nil))
	_, err := k.SignAssertion(testAssertion())
	faulttest.Want(t, err, fault.Unavailable, "NO_SIGNING_KEY")
}

// TestAssertionOfTheKeyInForce: the next key signs assertions from the moment
// that it signs access tokens, and the former one stays in the key set for as
// long as its last assertion lives, however short access tokens do.
func TestAssertionOfTheKeyInForce(t *testing.T) {
	t.Parallel()
	fake := clock.NewFake(issued)
	old, young := testKey(1), testKey(2)
	old.retired, young.active = issued.Add(time.Minute), issued.Add(time.Minute)
	k := testSigner(t, fake, old, young)
	for i, want := range []*signingKey{old, young} {
		if token := mustAssert(t, k, testAssertion()); !strings.HasPrefix(token, want.assertionHeader+".") {
			t.Errorf("after %d minutes another key signs", i)
		}
		fake.Advance(time.Minute)
	}
	if short := New(Options{TTL: time.Second}); short.keep < jose.AssertionTTL+jose.ClockSkew {
		t.Errorf("a key is kept for %s", short.keep)
	}
}

func BenchmarkSignAssertion(b *testing.B) {
	for _, algorithm := range jose.Algorithms() {
		for _, roles := range []int{2, 100} {
			b.Run(fmt.Sprintf("%s/%d-roles", algorithm, roles), func(b *testing.B) {
				k := testSigner(b, clock.NewFake(issued), keyOf(b, algorithm))
				a := testAssertion()
				a.Roles = slices.Repeat([]string{strings.Repeat("r", 64)}, roles)
				b.ReportAllocs()
				for b.Loop() {
					mustAssert(b, k, a)
				}
			})
		}
	}
}
