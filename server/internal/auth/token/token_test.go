package token

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

var issued = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) // when the tests' tokens are issued

// testSigner is a signingKeys with one key and no database.
func testSigner(t testing.TB, fake *clock.Fake, keys ...*signingKey) *Keys {
	t.Helper()
	clk := clock.Real()
	clk.Now = fake.Now
	k := New(Options{Issuer: "https://tollgate.test", Audience: "tollgate", Clock: clk})
	if len(keys) == 0 {
		keys = []*signingKey{testKey(1)}
	}
	k.set.Store(newKeySet(keys))
	return k
}

func testKey(seed byte) *signingKey {
	return testKeyOf(jose.EdDSA, ed25519.NewKeyFromSeed(slices.Repeat([]byte{seed}, ed25519.SeedSize)))
}

func testKeyOf(algorithm string, private crypto.Signer) *signingKey {
	id, err := jose.Thumbprint(private.Public())
	if err != nil {
		panic(err)
	}
	return &signingKey{
		id: id, algorithm: algorithm, private: private, public: private.Public(),
		active: issued.Add(-time.Hour), header: jose.EncodeHeader(algorithm, id, jose.TypeAccessToken),
		assertionHeader: jose.EncodeHeader(algorithm, id, jose.TypeAssertion),
	}
}

func testClaims() Claims {
	return Claims{
		Subject: "user-1", SessionID: "session-1", ID: "token-1", ClientID: "tollgate", Audience: "tollgate",
		IssuedAt: issued, ExpiresAt: issued.Add(15 * time.Minute),
	}
}

func mustSign(t testing.TB, k *Keys, claims Claims) string {
	t.Helper()
	token, err := k.Sign(claims)
	backendtest.Must(t, err)
	return token
}

// forge signs whatever it is given with the real key.
func forge(key *signingKey, header, payload string) string {
	signed := encode(header) + "." + encode(payload)
	signature, err := jose.Sign(key.private, signed)
	if err != nil {
		panic(err)
	}
	return signed + "." + encode(string(signature))
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func (k *Keys) expect(t *testing.T, what, token string, want caller.Reason) {
	t.Helper()
	for _, visit := range []string{"first", "second"} { // cold, then perhaps cached
		claims, got := k.Verify(token, k.Clock.Now())
		if got != want {
			t.Errorf("%s: %s verify = %s, want %s", what, visit, got, want)
		}
		if got != caller.ReasonOK && !reflect.DeepEqual(claims, Claims{}) {
			t.Errorf("%s: refused, but with claims %+v", what, claims)
		}
	}
}

func TestTokenShape(t *testing.T) {
	t.Parallel()
	k := testSigner(t, clock.NewFake(issued))
	token := mustSign(t, k, testClaims())
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d segments", len(parts))
	}
	key := testKey(1)
	want := []string{
		`{"alg":"EdDSA","kid":"` + key.id + `","typ":"at+jwt"}`,
		`{"iss":"https://tollgate.test","sub":"user-1","aud":"tollgate","exp":1777864621,"iat":1777863721,` +
			`"jti":"token-1","client_id":"tollgate","sid":"session-1"}`,
	}
	for i, want := range want {
		got, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || string(got) != want {
			t.Errorf("segment %d = %s (%v), want %s", i, got, err, want)
		}
	}
	claims, reason := k.Verify(token, issued)
	if reason != caller.ReasonOK || !reflect.DeepEqual(claims, testClaims()) {
		t.Errorf("verify = %+v, %s", claims, reason)
	}
	change := testClaims()
	change.PasswordChange = true
	if claims, _ := k.Verify(mustSign(t, k, change), issued); !reflect.DeepEqual(claims, change) {
		t.Errorf("verify = %+v, want %+v", claims, change)
	}
}

// TestTokenSaysHowTheUserSignedIn: amr and auth_time go through a token, and
// only a session's token has them, well formed.
func TestTokenSaysHowTheUserSignedIn(t *testing.T) {
	t.Parallel()
	k := testSigner(t, clock.NewFake(issued))
	want := testClaims()
	want.AMR, want.AuthTime = []string{"pwd", "otp", "mfa"}, issued.Add(-time.Hour)
	token := mustSign(t, k, want)
	if claims, reason := k.Verify(token, issued); reason != caller.ReasonOK || !reflect.DeepEqual(claims, want) {
		t.Errorf("verify = %+v, %s", claims, reason)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || !strings.HasSuffix(string(raw), `,"amr":["pwd","otp","mfa"],"auth_time":1777860121}`) {
		t.Errorf("payload %s, %v", raw, err)
	}
	const how = `"amr":["pwd","otp","mfa"]`
	const when = `"auth_time":1777860121`
	header := `{"alg":"EdDSA","kid":"` + testKey(1).id + `","typ":"at+jwt"}`
	forged := func(old, new string) string {
		return forge(testKey(1), header, strings.Replace(string(raw), old, new, 1))
	}
	k.expect(t, "positive control", forged(how, `"amr":["pwd"]`), caller.ReasonOK)
	for _, bad := range []string{`"amr":[]`, `"amr":null`, `"amr":"mfa"`, `"amr":[""]`, `"amr":[1]`, `"amr":["pwd","mfa",null]`} {
		k.expect(t, bad, forged(how, bad), caller.ReasonCredentialInvalid)
	}
	for _, bad := range []string{`"auth_time":0`, `"auth_time":-1`, `"auth_time":"1777860121"`, `"auth_time":1.5`, `"auth_time":null`} {
		k.expect(t, bad, forged(when, bad), caller.ReasonCredentialInvalid)
	}
	k.expect(t, "of a key", forged(`"sid":"session-1"`, `"api_key_id":"key-1"`), caller.ReasonCredentialInvalid)
}

func TestSignNeedsEveryClaim(t *testing.T) {
	t.Parallel()
	k := testSigner(t, clock.NewFake(issued))
	for name, drop := range map[string]func(*Claims){
		"subject":  func(c *Claims) { c.Subject = "" },
		"session":  func(c *Claims) { c.SessionID = "" },
		"id":       func(c *Claims) { c.ID = "" },
		"client":   func(c *Claims) { c.ClientID = "" },
		"issued":   func(c *Claims) { c.IssuedAt = time.Time{} },
		"no time":  func(c *Claims) { c.ExpiresAt = c.IssuedAt.Add(time.Millisecond) },
		"too long": func(c *Claims) { c.Subject = strings.Repeat("x", jose.MaxTokenSize) },
	} {
		claims := testClaims()
		drop(&claims)
		if token, err := k.Sign(claims); err == nil {
			t.Errorf("%s: signed %s", name, token)
		}
	}
	k.set.Store(newKeySet(nil))
	if _, err := k.Sign(testClaims()); err == nil {
		t.Error("signed without a key")
	}
}

func TestVerifyRefusesEveryOtherText(t *testing.T) {
	t.Parallel()
	k := testSigner(t, clock.NewFake(issued))
	token := mustSign(t, k, testClaims())
	k.expect(t, "the token", token, caller.ReasonOK)
	refused := func(what, other string) {
		t.Helper()
		if _, reason := k.Verify(other, issued); reason != caller.ReasonCredentialInvalid {
			t.Errorf("%s: %s", what, reason)
		}
	}
	for i := range len(token) {
		refused("prefix", token[:i])
		for bit := range 8 {
			flipped := []byte(token)
			flipped[i] ^= 1 << bit
			refused("flipped bit", string(flipped))
		}
		for _, extra := range []string{"\n", "\r", " ", "=", ".", "\x00", "A"} {
			refused("inserted "+extra, token[:i]+extra+token[i:])
		}
	}
	for _, extra := range []string{"\n", "\r\n", "=", "==", ".", ".AAAA", " ", "A"} {
		refused("appended", token+extra)
	}
	refused("twice", token+"."+token)
	refused("upper", strings.ToUpper(token))
}

func TestVerifyHeaders(t *testing.T) {
	t.Parallel()
	key, foreign := testKey(1), testKey(9)
	k := testSigner(t, clock.NewFake(issued), key, testKey(2))
	token := mustSign(t, testSigner(t, clock.NewFake(issued), key), testClaims())
	body, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	good := `{"alg":"EdDSA","kid":"` + key.id + `","typ":"at+jwt"}`
	k.expect(t, "positive control", forge(key, good, string(body)), caller.ReasonOK)

	with := func(more string) string { return good[:len(good)-1] + "," + more + "}" }
	swap := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	x := encode(string(foreign.public.(ed25519.PublicKey)))
	for name, header := range map[string]string{
		"another order":     `{"typ":"at+jwt","kid":"` + key.id + `","alg":"EdDSA"}`,
		"space":             good + " ",
		"no alg":            swap(`"alg":"EdDSA",`, ""),
		"alg none":          swap("EdDSA", "none"),
		"alg case":          swap("EdDSA", "eddsa"),
		"no kid":            swap(`"kid":"`+key.id+`",`, ""),
		"unknown kid":       swap(key.id, foreign.id),
		"another key's kid": swap(key.id, testKey(2).id),
		"typ JWT":           swap("at+jwt", "JWT"),
		"crit":              with(`"crit":["exp"],"exp":1`),
		"jwk":               with(`"jwk":{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}`),
		"jku":               with(`"jku":"https://evil.test"`),
		"alg twice":         with(`"alg":"EdDSA"`),
		"empty":             "",
	} {
		k.expect(t, name, forge(key, header, string(body)), caller.ReasonCredentialInvalid)
	}
	k.expect(t, "foreign key under our kid", forge(foreign, good, string(body)), caller.ReasonCredentialInvalid)

	parts := strings.Split(token, ".")
	k.expect(t, "no signature", parts[0]+"."+parts[1]+".", caller.ReasonCredentialInvalid)
}

func TestVerifyClaims(t *testing.T) {
	t.Parallel()
	key, fake := testKey(1), clock.NewFake(issued)
	k := testSigner(t, fake)
	header := `{"alg":"EdDSA","kid":"` + key.id + `","typ":"at+jwt"}`
	good := map[string]any{
		"iss": "https://tollgate.test", "sub": "user-1", "aud": "tollgate", "exp": issued.Unix() + 900, "iat": issued.Unix(),
		"jti": "token-1", "client_id": "tollgate", "sid": "session-1",
	}
	with := func(name string, value any) string {
		claims := maps.Clone(good)
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
		text, err := json.Marshal(claims)
		backendtest.Must(t, err)
		return forge(key, header, string(text))
	}
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	k.expect(t, "positive control", with("unknown", "is left alone"), caller.ReasonOK)
	for name, value := range good {
		k.expect(t, "without "+name, with(name, nil), caller.ReasonCredentialInvalid)
		others := []any{raw("null"), true, 1.5, -1, 0, "", []any{value}}
		if _, isText := value.(string); isText {
			others = append(others, 1)
		} else {
			others = append(others, "1777864621")
		}
		for _, other := range others {
			k.expect(t, name+" mistyped", with(name, other), caller.ReasonCredentialInvalid)
		}
	}
	// What the readers of internal/jose refuse is tested there.
	for name, token := range map[string]string{
		"other issuer": with("iss", "https://tollgate.test/"), "list of audiences": with("aud", []string{"tollgate"}),
		"issued ahead": with("iat", issued.Add(jose.ClockSkew).Unix()+1), "change text": with("password_change", "true"),
	} {
		k.expect(t, name, token, caller.ReasonCredentialInvalid)
	}
	k.expect(t, "no change", with("password_change", false), caller.ReasonOK)

	fake.Advance(time.Hour)
	k.expect(t, "over", with("sub", "user-3"), caller.ReasonCredentialExpired)
	k.expect(t, "over and wrong", with("iss", "orders"), caller.ReasonCredentialInvalid)
}

func TestVerifyEnd(t *testing.T) {
	t.Parallel()
	fake := clock.NewFake(issued)
	k := testSigner(t, fake)
	warm, cold := mustSign(t, k, testClaims()), testClaims()
	cold.ID = "token-2"
	other := mustSign(t, k, cold)
	k.expect(t, "new", warm, caller.ReasonOK)
	fake.Advance(15*time.Minute - time.Nanosecond)
	k.expect(t, "at the last moment", warm, caller.ReasonOK)
	fake.Advance(time.Nanosecond)
	k.expect(t, "over, cached", warm, caller.ReasonCredentialExpired)
	k.expect(t, "over, not cached", other, caller.ReasonCredentialExpired)
}

// A remembered token does not outlive its key.
func TestVerifyAfterKeyRemoval(t *testing.T) {
	t.Parallel()
	fake := clock.NewFake(issued)
	old, young := testKey(1), testKey(2)
	old.retired, old.removed = issued.Add(time.Minute), issued.Add(2*time.Minute)
	young.active = issued.Add(time.Minute)
	k := testSigner(t, fake, old, young)
	token := mustSign(t, k, testClaims())
	if !strings.HasPrefix(token, old.header+".") {
		t.Fatal("not signed with the key in force")
	}
	k.expect(t, "key in force", token, caller.ReasonOK)
	fake.Advance(time.Minute)
	k.expect(t, "key retired", token, caller.ReasonOK)
	next := testClaims()
	next.ExpiresAt = issued.Add(time.Hour)
	later := mustSign(t, k, next)
	if !strings.HasPrefix(later, young.header+".") {
		t.Fatal("not signed with the next key")
	}
	k.expect(t, "next key", later, caller.ReasonOK)
	fake.Advance(time.Minute)
	k.expect(t, "key's time over", token, caller.ReasonCredentialInvalid)
	k.expect(t, "next key", later, caller.ReasonOK)
	k.set.Store(newKeySet([]*signingKey{old}))
	k.expect(t, "key no longer loaded", later, caller.ReasonCredentialInvalid)
}

func FuzzVerify(f *testing.F) {
	fake := clock.NewFake(issued)
	k := testSigner(f, fake)
	token := mustSign(f, k, testClaims())
	f.Add(token)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, other string) {
		if _, reason := k.Verify(other, issued); reason != caller.ReasonCredentialInvalid && other != token {
			t.Errorf("%q: %s", other, reason)
		}
	})
}

func BenchmarkVerifyCached(b *testing.B) {
	k := testSigner(b, clock.NewFake(issued))
	token := mustSign(b, k, testClaims())
	b.ReportAllocs()
	for b.Loop() {
		if _, reason := k.Verify(token, issued); reason != caller.ReasonOK {
			b.Fatal(reason)
		}
	}
}

// TestTokenHolder: a token ends with a session or with a key, and only a key's
// is narrowed.
func TestTokenHolder(t *testing.T) {
	t.Parallel()
	key, fake := testKey(1), clock.NewFake(issued)
	k := testSigner(t, fake)
	header := `{"alg":"EdDSA","kid":"` + key.id + `","typ":"at+jwt"}`
	for _, c := range []struct {
		claims map[string]any
		want   caller.Reason
	}{
		{map[string]any{"sid": "s"}, caller.ReasonOK},
		{map[string]any{"api_key_id": "k"}, caller.ReasonOK},
		{map[string]any{"api_key_id": "k", "scope": "a:b"}, caller.ReasonOK},
		{map[string]any{}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": "k", "sid": "s"}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": "", "sid": "s"}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": nil, "sid": "s"}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": ""}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": 1}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": "k", "scope": ""}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": "k", "scope": []string{"a:b"}}, caller.ReasonCredentialInvalid},
		{map[string]any{"sid": "s", "scope": "a:b"}, caller.ReasonCredentialInvalid},
	} {
		claims := map[string]any{
			"iss": "https://tollgate.test", "sub": "user-1", "aud": "tollgate", "exp": issued.Unix() + 900, "iat": issued.Unix(),
			"jti": "token-1", "client_id": "tollgate",
		}
		maps.Copy(claims, c.claims)
		text, err := json.Marshal(claims)
		backendtest.Must(t, err)
		if _, got := k.Verify(forge(key, header, string(text)), issued); got != c.want {
			t.Errorf("%v: %s, want %s", c.claims, got, c.want)
		}
	}
}
