package tollgate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// wantReason checks the answer about a token.
func (f *fixture) wantReason(t *testing.T, token string, reason tollgate.Reason) {
	t.Helper()
	v, err := f.verifier.Verify(t.Context(), token)
	if err != nil {
		t.Errorf("error %v, want %s", err, reason)
		return
	}
	if v.Reason != reason || v.Active != (reason == tollgate.ReasonOK) || (v.Principal != nil) != v.Active {
		t.Errorf("%+v, want %s", v, reason)
	}
}

// wantNoAnswer checks that there is no answer about a token.
func (f *fixture) wantNoAnswer(t *testing.T, token string) {
	t.Helper()
	if v, err := f.verifier.Verify(t.Context(), token); !errors.Is(err, tollgate.ErrUnavailable) || v != nil {
		t.Errorf("%+v, error %v", v, err)
	}
}

// wantVerifyCalls checks how often Tollgate had to verify a credential.
func (f *fixture) wantVerifyCalls(t *testing.T, want int) {
	t.Helper()
	if n := f.Calls("AuthService/Verify"); n != want {
		t.Errorf("Tollgate verified %d times, want %d", n, want)
	}
}

func TestVerifier(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	signedIn := f.now().Add(-time.Hour)
	token := f.Token("alice", sdktest.InSession("s-1"),
		sdktest.Claim("amr", []string{"pwd", "otp", "mfa"}), sdktest.Claim("auth_time", signedIn.Unix()))
	for range 3 {
		v, err := f.verifier.Verify(t.Context(), token)
		if err != nil || !v.Active || v.Reason != tollgate.ReasonOK {
			t.Fatalf("%+v, error %v", v, err)
		}
		p := v.Principal
		if p.UserID != alicesUser || p.SessionID != "s-1" || p.APIKeyID != "" || p.Audience != sdktest.Audience ||
			!p.ExpiresAt.Equal(f.now().Add(15*time.Minute)) || !slices.Equal(p.Amr, []string{"pwd", "otp", "mfa"}) || !p.AuthTime.Equal(signedIn) {
			t.Errorf("principal %+v", p)
		}
		p.UserID, p.Amr[0] = "mallory", "changed" // the caller may change its own copy
	}
	v, err := f.verifier.Verify(t.Context(), f.Token("alice", sdktest.FromAPIKey("k-1"), sdktest.Claim("scope", "a:read b:*")))
	if err != nil || v.Principal.APIKeyID != "k-1" || v.Principal.SessionID != "" || !slices.Equal(v.Principal.Scopes, []string{"a:read", "b:*"}) {
		t.Errorf("%+v, error %v", v, err)
	}
	if n := f.Calls(keysPath); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
	f.wantVerifyCalls(t, 0)

	f.add(15*time.Minute - time.Nanosecond)
	f.wantReason(t, token, tollgate.ReasonOK)
	f.add(time.Nanosecond) // there is no leeway
	f.wantReason(t, token, tollgate.ReasonCredentialExpired)
	f.wantReason(t, f.Token("alice", sdktest.ExpiresAt(f.now())), tollgate.ReasonCredentialExpired)

	f.wantReason(t, "", tollgate.ReasonCredentialMissing)
	f.wantReason(t, "no token", tollgate.ReasonCredentialInvalid)
	f.wantReason(t, f.APIKey("alice"), tollgate.ReasonOK)
	f.wantVerifyCalls(t, 1)
	f.SetUser(sdktest.User{Name: "bob", PasswordChange: true})
	f.wantReason(t, f.Token("bob"), tollgate.ReasonPasswordChangeRequired)
}

// TestVerifierChangedTokens: no prefix of a token is good, nor one with a bit
// flipped or something added.
func TestVerifierChangedTokens(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	token := f.Token("alice")
	f.wantReason(t, token, tollgate.ReasonOK)
	good := func(forged string) bool {
		v, err := f.verifier.Verify(t.Context(), forged)
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
	f.wantVerifyCalls(t, 0)
}

// TestVerifierClaims: each claim must be there, of its type, and right. What
// package jose refuses whatever the claim's name is its tests' business.
func TestVerifierClaims(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	now := f.now()
	for _, good := range []sdktest.TokenOption{
		sdktest.Claim("iat", now.Add(jose.ClockSkew).Unix()),
		sdktest.Claim("nbf", now.Add(jose.ClockSkew).Unix()),
		sdktest.Claim("tenant", "acme"),
		sdktest.Claim("amr", []string{}),
		sdktest.Claim("password_change", false),
	} {
		f.wantReason(t, f.Token("alice", good), tollgate.ReasonOK)
	}
	for name, values := range map[string][]any{
		"iss":             {nil, "", 1, []string{sdktest.Issuer}, sdktest.Issuer + "/"},
		"aud":             {nil, "", 1, []string{sdktest.Audience}},
		"sub":             {nil, "", 1, true},
		"jti":             {nil, "", 1, true},
		"client_id":       {nil, "", 1, true},
		"sid":             {nil, "", 1, true},
		"iat":             {nil, "1800000000", 0, 1.8e9 + 0.5, now.Add(jose.ClockSkew + time.Second).Unix()},
		"exp":             {nil, "1800000000", 0, now.Unix(), int64(1) << 60},
		"nbf":             {"0", now.Add(jose.ClockSkew + time.Second).Unix()},
		"amr":             {json.RawMessage(`null`), "pwd", []int{1}, []any{nil}, []string{""}, slices.Repeat([]string{"pwd"}, 17)},
		"auth_time":       {"1800000000", 0},
		"password_change": {1, "true"},
		"api_key_id":      {"k-1", "", 1}, // beside the session
		"scope":           {"orders:read", "", 1},
	} {
		for _, value := range values {
			t.Run(fmt.Sprintf("%s %v", name, value), func(t *testing.T) {
				f.wantReason(t, f.Token("alice", sdktest.Claim(name, value)), tollgate.ReasonCredentialInvalid)
			})
		}
	}
	t.Run("scope of a key", func(t *testing.T) {
		for _, scope := range []any{"", " ", 1} {
			f.wantReason(t, f.Token("alice", sdktest.FromAPIKey("k-1"), sdktest.Claim("scope", scope)), tollgate.ReasonCredentialInvalid)
		}
	})
}

// TestVerifierAudience: a token for one service is refused by every other one.
func TestVerifierAudience(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	token := f.Token("alice", sdktest.Claim("aud", "orders"))
	for range 2 {
		f.wantReason(t, token, tollgate.ReasonWrongAudience)
	}
	f.startVerifier(t, tollgate.VerifierConfig{Audience: "orders"})
	f.waitFor(t, 0)
	f.wantReason(t, f.Token("alice"), tollgate.ReasonWrongAudience)
	f.wantReason(t, token, tollgate.ReasonOK)
	f.wantReason(t, token+"x", tollgate.ReasonCredentialInvalid)
	f.wantReason(t, f.Token("alice", sdktest.ExpiresAt(f.now())), tollgate.ReasonWrongAudience)
}

func TestVerifierAccessTokenTTL(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.startVerifier(t, tollgate.VerifierConfig{AccessTokenTTL: time.Minute})
	f.waitFor(t, 0)
	token := f.Token("alice") // for 15 min
	f.wantReason(t, token, tollgate.ReasonOK)
	f.add(time.Minute)
	f.wantReason(t, token, tollgate.ReasonCredentialExpired)
}

func TestNewVerifierRefuses(t *testing.T) {
	t.Parallel()
	client := newFixture(t).client(t)
	for name, config := range map[string]tollgate.VerifierConfig{
		"no issuer":            {Audience: "a"},
		"no audience":          {Issuer: "i"},
		"a bound below 1 s":    {Issuer: "i", Audience: "a", FeedBound: time.Second},
		"too fresh keys":       {Issuer: "i", Audience: "a", StaleKeys: time.Second},
		"too short a lifetime": {Issuer: "i", Audience: "a", AccessTokenTTL: time.Millisecond},
		"too long a lifetime":  {Issuer: "i", Audience: "a", AccessTokenTTL: 25 * time.Hour},
		"a negative FeedBound": {Issuer: "i", Audience: "a", FeedBound: -time.Hour},
		"a negative StaleKeys": {Issuer: "i", Audience: "a", StaleKeys: -time.Hour},
		"a negative lifetime":  {Issuer: "i", Audience: "a", AccessTokenTTL: -time.Hour},
	} {
		if v, err := tollgate.NewVerifier(client, config); err == nil || v != nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestVerifierClose(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	token := f.Token("alice")
	f.wantReason(t, token, tollgate.ReasonOK)
	f.verifier.Close()
	f.verifier.Close()
	f.wantNoAnswer(t, token)
	if err := f.verifier.Wait(t.Context(), 1<<40); !errors.Is(err, tollgate.ErrUnavailable) {
		t.Errorf("Wait: %v", err)
	}
}

func TestVerifierCallerHangsUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	arrived, answer := make(chan struct{}), make(chan struct{})
	f.intercept(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == keysPath {
			close(arrived)
			<-answer
		}
		return f.next.RoundTrip(r)
	})
	f.startVerifier(t, tollgate.VerifierConfig{})
	<-arrived
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if _, err := f.verifier.Verify(gone, f.Token("alice")); err == nil {
		t.Error("no error")
	}
	if err := f.verifier.Wait(gone, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
	close(answer)
	f.waitFor(t, 0) // the fetch went on
	f.wantReason(t, f.Token("alice"), tollgate.ReasonOK)
}
