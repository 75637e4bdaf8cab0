package tollgate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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

// stage is a Tollgate with alice, whose feed tells only what happens, and a
// verifier of its tokens that is warm.
type stage struct {
	*sdktest.Server
	*clock
	verifier *tollgate.Verifier
}

func newStage(t *testing.T, client []tollgate.Option, opts ...tollgate.VerifierOption) *stage {
	t.Helper()
	s := coldStage(t, client, opts...)
	if err := s.verifier.Wait(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	return s
}

func coldStage(t *testing.T, client []tollgate.Option, opts ...tollgate.VerifierOption) *stage {
	t.Helper()
	c := newClock()
	s := &stage{Server: sdktest.NewServer(sdktest.WithClock(c.now), sdktest.WithKeepAlive(time.Hour)), clock: c}
	t.Cleanup(s.Close)
	s.SetUser(sdktest.User{Name: "alice"})
	client = append([]tollgate.Option{tollgate.WithTimeout(30 * time.Second), tollgate.WithLogger(slog.New(slog.DiscardHandler))}, client...)
	opts = append([]tollgate.VerifierOption{tollgate.WithFeedBound(time.Hour)}, opts...)
	verifier, err := tollgate.NewVerifier(s.Client(client...), sdktest.Issuer, sdktest.Audience, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(verifier.Close)
	s.verifier = verifier
	return s
}

// wants checks the reason of an answer.
func (s *stage) wants(t *testing.T, token string, reason tollgate.Reason) {
	t.Helper()
	v, err := s.verifier.Verify(t.Context(), token)
	if err != nil {
		t.Errorf("error %v, want %s", err, reason)
		return
	}
	if v.Reason != reason || v.Active != (reason == tollgate.ReasonOK) || (v.Principal != nil) != v.Active {
		t.Errorf("%+v, want %s", v, reason)
	}
}

// fails checks that nothing is said of the token.
func (s *stage) fails(t *testing.T, token string) {
	t.Helper()
	if v, err := s.verifier.Verify(t.Context(), token); !errors.Is(err, tollgate.ErrUnavailable) || v != nil {
		t.Errorf("%+v, error %v", v, err)
	}
}

func TestVerifier(t *testing.T) {
	s := newStage(t, nil)
	token := s.Token("alice", sdktest.InSession("s-1"))
	for range 3 {
		v, err := s.verifier.Verify(t.Context(), token)
		if err != nil || !v.Active || v.Reason != tollgate.ReasonOK {
			t.Fatalf("%+v, error %v", v, err)
		}
		p := v.Principal
		if p.UserID != "user-alice" || p.SessionID != "s-1" || p.APIKeyID != "" || !p.ExpiresAt.Equal(s.now().Add(15*time.Minute)) {
			t.Errorf("principal %+v", p)
		}
		p.UserID = "mallory" // it is the caller's own
	}
	v, err := s.verifier.Verify(t.Context(), s.Token("alice", sdktest.FromAPIKey("k-1")))
	if err != nil || v.Principal.APIKeyID != "k-1" || v.Principal.SessionID != "" {
		t.Errorf("%+v, error %v", v, err)
	}
	if fetched, asked := s.Calls(keysPath), s.Calls("AuthService/Verify"); fetched != 1 || asked != 0 {
		t.Errorf("the keys were fetched %d times, Verify was asked %d times", fetched, asked)
	}

	s.add(15*time.Minute - time.Nanosecond)
	s.wants(t, token, tollgate.ReasonOK)
	s.add(time.Nanosecond) // no leeway
	s.wants(t, token, tollgate.ReasonCredentialExpired)
	s.wants(t, s.Token("alice", sdktest.ExpiresAt(s.now())), tollgate.ReasonCredentialExpired)

	s.wants(t, "", tollgate.ReasonCredentialMissing)
	s.wants(t, "no token", tollgate.ReasonCredentialInvalid)
	s.wants(t, s.APIKey("alice"), tollgate.ReasonOK) // Tollgate knows
	s.SetUser(sdktest.User{Name: "bob", PasswordChange: true})
	s.wants(t, s.Token("bob"), tollgate.ReasonPasswordChangeRequired)
}

func TestVerifierRefusesEveryPrefixAndBit(t *testing.T) {
	s := newStage(t, nil)
	token := s.Token("alice")
	s.wants(t, token, tollgate.ReasonOK)
	good := func(forged string) bool {
		v, err := s.verifier.Verify(t.Context(), forged)
		return err != nil || v.Active || v.Principal != nil
	}
	for i := range token {
		if good(token[:i]) {
			t.Errorf("the first %d of %d bytes were not refused", i, len(token))
		}
		for bit := range 8 {
			forged := []byte(token)
			forged[i] ^= 1 << bit
			if good(string(forged)) {
				t.Errorf("bit %d of byte %d flipped was not refused", bit, i)
			}
		}
	}
	for _, more := range []string{".", "=", "A", ".e30", token} {
		if good(token + more) {
			t.Errorf("%q at the end was not refused", more)
		}
	}
	if n := s.Calls("AuthService/Verify"); n != 0 {
		t.Errorf("Tollgate was asked %d times about bad tokens", n)
	}
}

func TestVerifierIsStrict(t *testing.T) {
	f, keys := edForger(t, "key-1"), &keySet{}
	keys.set(jwks(f))
	s := newStage(t, []tollgate.Option{keys.through(newTransport(t)).client()})
	now := s.now()
	header, claims := f.header(), goodClaims(now)
	s.wants(t, f.token(header, claims), tollgate.ReasonOK)
	s.wants(t, f.token(header, with(claims, "iat", now.Add(jose.ClockSkew).Unix())), tollgate.ReasonOK)
	s.wants(t, f.token(header, with(claims, "nbf", now.Add(jose.ClockSkew).Unix())), tollgate.ReasonOK)
	s.wants(t, f.token(header, with(claims, "tenant", "acme")), tollgate.ReasonOK)
	s.wants(t, f.token(header, with(claims, "amr", []string{})), tollgate.ReasonOK)
	s.wants(t, f.token(header, with(claims, "password_change", false)), tollgate.ReasonOK)
	s.wants(t, f.token(header, with(claims, "password_change", true)), tollgate.ReasonPasswordChangeRequired)

	forged := map[string]string{}
	for name, value := range map[string]any{
		"crit": []string{"exp"}, "jwk": f.jwk, "jku": "https://evil.test", "x5u": "https://evil.test", "cty": "JWT", "b64": false,
	} {
		forged["header with "+name] = f.token(with(header, name, value), claims)
	}
	for _, name := range []string{"alg", "kid", "typ"} {
		for _, value := range []any{nil, "", 1, true, []string{"EdDSA"}, "x"} {
			forged[fmt.Sprintf("header %s %v", name, value)] = f.token(with(header, name, value), claims)
		}
	}
	for _, typ := range []string{"JWT", "AT+JWT", "application/at+jwt", "at+jwt "} {
		forged["typ "+typ] = f.token(with(header, "typ", typ), claims)
	}
	for _, name := range []string{"iss", "aud", "sub", "jti", "client_id", "sid"} {
		for _, value := range []any{nil, "", 1, 1.5, true, []string{sdktest.Audience}, map[string]string{}} {
			forged[fmt.Sprintf("%s %v", name, value)] = f.token(header, with(claims, name, value))
		}
	}
	for _, name := range []string{"iat", "exp"} {
		for _, value := range []any{nil, "", "1800000000", 0, -1, 1.8e9 + 0.5, true, []int64{now.Unix()}, int64(1) << 60} {
			forged[fmt.Sprintf("%s %v", name, value)] = f.token(header, with(claims, name, value))
		}
	}
	for name, change := range map[string]struct {
		claim string
		value any
	}{
		"another issuer":         {"iss", sdktest.Issuer + "/"},
		"amr null":               {"amr", json.RawMessage(`null`)},
		"amr text":               {"amr", "pwd"},
		"amr of numbers":         {"amr", []int{1}},
		"amr of nothing":         {"amr", []any{nil}},
		"amr with an empty text": {"amr", []string{""}},
		"amr without end":        {"amr", slices.Repeat([]string{"pwd"}, 17)},
		"auth_time text":         {"auth_time", "1800000000"},
		"auth_time 0":            {"auth_time", 0},
		"issued in the future":   {"iat", now.Add(jose.ClockSkew + time.Second).Unix()},
		"ends when it begins":    {"exp", now.Unix()},
		"not yet":                {"nbf", now.Add(jose.ClockSkew + time.Second).Unix()},
		"not yet, as text":       {"nbf", "0"},
		"password_change 1":      {"password_change", 1},
		"password_change text":   {"password_change", "true"},
		"a session and a key":    {"api_key_id", "k-1"},
		"a session and no key":   {"api_key_id", ""},
		"a key of another type":  {"api_key_id", 1},
		"a header in the claims": {"exp", map[string]any{"alg": "none"}},
	} {
		forged[name] = f.token(header, with(claims, change.claim, change.value))
	}
	h, c := jsonText(header), jsonText(claims)
	for name, text := range map[string][2]string{
		"alg twice":           {`{"alg":"none",` + h[1:], c},
		"alg twice, escaped":  {`{"\u0061lg":"none",` + h[1:], c},
		"sub twice":           {h, `{"sub":"user-root",` + c[1:]},
		"more after claims":   {h, c + `{}`},
		"more after header":   {h + ` x`, c},
		"claims are a list":   {h, `[` + c + `]`},
		"claims are null":     {h, `null`},
		"claims are nothing":  {h, ``},
		"claims are cut":      {h, c[:len(c)-1]},
		"header is a text":    {`"EdDSA"`, c},
		"claims not in UTF-8": {h, strings.Replace(c, "user-alice", "user-\xff", 1)},
		"Claims in capitals":  {h, strings.Replace(c, `"sub"`, `"Sub"`, 1)},
	} {
		forged[name] = f.text(text[0], text[1])
	}
	good := f.token(header, claims)
	parts := strings.Split(good, ".")
	forged["two segments"] = parts[0] + "." + parts[1]
	forged["four segments"] = good + "." + parts[2]
	forged["no signature"] = parts[0] + "." + parts[1] + "."
	forged["padding"] = good + "="
	forged["standard base64"] = strings.NewReplacer("-", "+", "_", "/").Replace(good) + "=="
	forged["more than 8 KiB"] = f.token(header, with(claims, "x", strings.Repeat("a", 7000)))
	forged["a long kid"] = f.token(with(header, "kid", strings.Repeat("k", 200)), claims)
	for name, token := range forged {
		t.Run(name, func(t *testing.T) { s.wants(t, token, tollgate.ReasonCredentialInvalid) })
	}
}

// A token for one service is refused by every other one, and says so.
func TestVerifierAudience(t *testing.T) {
	s := newStage(t, nil)
	for range 2 {
		s.wants(t, s.Token("alice", sdktest.Claim("aud", "orders")), tollgate.ReasonWrongAudience)
	}
	orders, err := tollgate.NewVerifier(s.Client(), sdktest.Issuer, "orders", tollgate.WithFeedBound(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer orders.Close()
	s.verifier = orders
	s.hears(t, 0)
	s.wants(t, s.Token("alice"), tollgate.ReasonWrongAudience)
	token := s.Token("alice", sdktest.Claim("aud", "orders"))
	s.wants(t, token, tollgate.ReasonOK)
	s.wants(t, token+"x", tollgate.ReasonCredentialInvalid)
	s.wants(t, s.Token("alice", sdktest.ExpiresAt(s.now())), tollgate.ReasonWrongAudience) // a new one would do no better
}

// How and when somebody signed in is for the service to judge.
func TestVerifierTellsTheSignIn(t *testing.T) {
	s := newStage(t, nil)
	began := s.now().Add(-time.Hour)
	token := s.Token("alice", sdktest.Claim("amr", []string{"pwd", "otp", "mfa"}), sdktest.Claim("auth_time", began.Unix()))
	for range 2 {
		v, err := s.verifier.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		p := v.Principal
		if !slices.Equal(p.Amr, []string{"pwd", "otp", "mfa"}) || !p.AuthTime.Equal(began) || p.Audience != sdktest.Audience {
			t.Errorf("principal %+v", p)
		}
		p.Amr[0] = "changed" // it is the caller's own
	}
}

func TestVerifierOldToken(t *testing.T) {
	s := newStage(t, nil, tollgate.WithAccessTokenTTL(time.Minute))
	token := s.Token("alice") // it says 15 min
	s.wants(t, token, tollgate.ReasonOK)
	s.add(time.Minute)
	s.wants(t, token, tollgate.ReasonCredentialExpired)
}

func TestNewVerifierRefuses(t *testing.T) {
	client := sdktestClient(t)
	for name, opt := range map[string]tollgate.VerifierOption{
		"a bound below the beat": tollgate.WithFeedBound(time.Second),
		"no time for keys":       tollgate.WithStaleKeys(time.Second),
		"no lifetime":            tollgate.WithAccessTokenTTL(0),
		"too long a lifetime":    tollgate.WithAccessTokenTTL(25 * time.Hour),
	} {
		if v, err := tollgate.NewVerifier(client, sdktest.Issuer, sdktest.Audience, opt); err == nil || v != nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, who := range [][2]string{{"", sdktest.Audience}, {sdktest.Issuer, ""}} {
		if _, err := tollgate.NewVerifier(client, who[0], who[1]); err == nil {
			t.Errorf("%q was accepted", who)
		}
	}
}

func sdktestClient(t *testing.T) *tollgate.Client {
	s := sdktest.NewServer()
	t.Cleanup(s.Close)
	return s.Client()
}

func TestVerifierClose(t *testing.T) {
	s := newStage(t, nil)
	token := s.Token("alice")
	s.wants(t, token, tollgate.ReasonOK)
	s.verifier.Close()
	s.verifier.Close()
	s.fails(t, token)
	if err := s.verifier.Wait(t.Context(), 1<<40); !errors.Is(err, tollgate.ErrUnavailable) {
		t.Errorf("Wait: %v", err)
	}
}

func TestVerifierCallerHangsUp(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	next := newTransport(t)
	hold := tripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == keysPath {
			close(arrived)
			<-answer
		}
		return next.RoundTrip(r)
	})
	s := coldStage(t, []tollgate.Option{hold.client()})
	<-arrived
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if _, err := s.verifier.Verify(gone, s.Token("alice")); err == nil {
		t.Error("no error")
	}
	close(answer)
	if err := s.verifier.Wait(t.Context(), 0); err != nil { // the fetch went on
		t.Fatal(err)
	}
	s.wants(t, s.Token("alice"), tollgate.ReasonOK)
}

func TestAuthenticate(t *testing.T) {
	s := newStage(t, nil, tollgate.WithFailClosed())
	s.SetUser(sdktest.User{Name: "bob", PasswordChange: true})
	h := s.verifier.Authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, tollgate.FromContext(r.Context()).UserID)
	}))
	for _, test := range []struct {
		authorization string
		status        int
		contains      string
	}{
		{"Bearer " + s.Token("alice"), 200, "user-alice"},
		{"Bearer " + s.Token("alice") + "x", 401, "unauthenticated"},
		{"Basic eDp5", 401, "unauthenticated"},
		{"Bearer " + s.Token("bob"), 403, "permission_denied"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, request(test.authorization))
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.contains) {
			t.Errorf("%s: %d %s", test.authorization, w.Code, w.Body)
		}
	}
	token := s.Token("alice", sdktest.ExpiresAt(s.now().Add(10*time.Hour)))
	s.hears(t, s.KeepAlive())
	s.add(2 * time.Hour)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request("Bearer "+token))
	if w.Code != 503 {
		t.Errorf("without the feed: %d", w.Code)
	}
}
