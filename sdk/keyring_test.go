package tollgate_test

import (
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// ES256 gives every signature a second form; a token has one spelling.
func TestVerifierRefusesHighS(t *testing.T) {
	f, keys := ecForger(t, "ec"), &keySet{}
	keys.set(jwks(f))
	s := newStage(t, []tollgate.Option{keys.through(newTransport(t)).client()})
	for range 20 {
		token := f.token(f.header(), goodClaims(s.now()))
		s.wants(t, token, tollgate.ReasonOK)
		dot := strings.LastIndexByte(token, '.')
		signature, err := decode(token[dot+1:])
		if err != nil {
			t.Fatal(err)
		}
		high := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(signature[32:]))
		high.FillBytes(signature[32:])
		s.wants(t, token[:dot+1]+b64(signature), tollgate.ReasonCredentialInvalid)
	}
}

func TestVerifierPinsTheAlgorithm(t *testing.T) {
	all := []*forger{edForger(t, "ed"), ecForger(t, "ec"), rsaForger(t, "rsa", 2048)}
	keys := &keySet{}
	keys.set(jwks(all[0], all[1], all[2]))
	s := newStage(t, []tollgate.Option{keys.through(newTransport(t)).client()})
	claims := goodClaims(s.now())
	for _, f := range all {
		s.wants(t, f.token(f.header(), claims), tollgate.ReasonOK)
		for _, algorithm := range []string{"EdDSA", "ES256", "RS256", "HS256", "PS256", "none", "NONE", "eddsa"} {
			if algorithm != f.algorithm {
				s.wants(t, f.token(with(f.header(), "alg", algorithm), claims), tollgate.ReasonCredentialInvalid)
			}
		}
		for _, other := range all {
			if other != f { // signed by one, names the other
				s.wants(t, f.token(with(f.header(), "kid", other.id), claims), tollgate.ReasonCredentialInvalid)
				s.wants(t, f.token(other.header(), claims), tollgate.ReasonCredentialInvalid)
			}
		}
		for _, secret := range []any{f.jwk["x"], f.jwk["n"], jwks(f)} {
			text, _ := secret.(string)
			raw, _ := decode(text)
			for _, key := range [][]byte{[]byte(text), raw} {
				mac := &forger{sign: func(b []byte) []byte {
					h := hmac.New(sha256.New, key)
					h.Write(b)
					return h.Sum(nil)
				}}
				for _, algorithm := range []string{"HS256", f.algorithm} {
					s.wants(t, mac.token(with(f.header(), "alg", algorithm), claims), tollgate.ReasonCredentialInvalid)
				}
			}
		}
		unsigned := &forger{sign: func([]byte) []byte { return nil }}
		for _, algorithm := range []string{"none", f.algorithm} {
			s.wants(t, unsigned.token(with(f.header(), "alg", algorithm), claims), tollgate.ReasonCredentialInvalid)
		}
		zero := &forger{sign: func(b []byte) []byte { return make([]byte, len(f.sign(b))) }}
		s.wants(t, zero.token(f.header(), claims), tollgate.ReasonCredentialInvalid)
	}
}

func TestVerifierRefusesKeySets(t *testing.T) {
	f := edForger(t, "key-1")
	many := []any{f}
	for i := range 32 {
		many = append(many, with(f.jwk, "kid", fmt.Sprint(i)))
	}
	for name, text := range map[string]string{
		"no JSON":   "<html>",
		"nothing":   "{}",
		"no keys":   jwks(),
		"two alike": jwks(f, edForger(t, "key-1")),
		"too many":  jwks(many...),
		"too long":  jwks(f) + strings.Repeat(" ", 64<<10),
	} {
		t.Run(name, func(t *testing.T) {
			keys := &keySet{}
			keys.set(text)
			s := coldStage(t, []tollgate.Option{keys.through(newTransport(t)).client()})
			s.fails(t, f.token(f.header(), goodClaims(s.now())))
		})
	}
}

// The keys are fetched again at the age to which Tollgate lets them be kept.
func TestVerifierKeySetAge(t *testing.T) {
	s := newStage(t, nil)
	s.add(jose.KeySetMaxAge - time.Nanosecond)
	s.wants(t, s.Token("alice"), tollgate.ReasonOK)
	if n := s.Calls(keysPath); n != 1 {
		t.Fatalf("fetched %d times before the end", n)
	}
	s.add(time.Nanosecond)
	s.RotateKey()
	s.wants(t, s.Token("alice"), tollgate.ReasonOK) // waits for the fetch
	if n := s.Calls(keysPath); n != 2 {
		t.Fatalf("fetched %d times at the end", n)
	}
}

// Of tokens with keys that nobody has, however many, one fetches.
func TestVerifierUnknownKeys(t *testing.T) {
	s := newStage(t, nil)
	for round := range 3 {
		s.add(5 * time.Second)
		var all sync.WaitGroup
		for i := range 50 {
			f := edForger(t, fmt.Sprintf("bogus-%d-%d", round, i))
			all.Go(func() { s.wants(t, f.token(f.header(), goodClaims(s.now())), tollgate.ReasonCredentialInvalid) })
		}
		all.Wait()
		if n := s.Calls(keysPath); n != round+2 {
			t.Fatalf("the keys were fetched %d times after %d intervals", n, round+1)
		}
	}
	s.RotateKey()
	token := s.Token("alice")
	s.wants(t, token, tollgate.ReasonCredentialInvalid) // too soon to fetch
	s.add(5 * time.Second)
	s.wants(t, token, tollgate.ReasonOK)
}

func TestVerifierKeysDown(t *testing.T) {
	s := newStage(t, nil, tollgate.WithFeedBound(24*time.Hour), tollgate.WithStaleKeys(time.Hour))
	token := s.Token("alice", sdktest.ExpiresAt(s.now().Add(10*time.Hour)))
	s.wants(t, token, tollgate.ReasonOK)
	s.SetDown(true)
	s.add(time.Hour)
	s.wants(t, token, tollgate.ReasonOK)
	s.add(time.Second)
	s.fails(t, token) // just tried
	s.add(5 * time.Second)
	s.fails(t, token) // tried again
	s.SetDown(false)
	s.add(5 * time.Second)
	s.wants(t, token, tollgate.ReasonOK)
}

// A key that was taken out of the set stops its tokens, those too that were
// verified before.
func TestVerifierRemovedKey(t *testing.T) {
	leaked, next, keys := edForger(t, "leaked"), edForger(t, "next"), &keySet{}
	keys.set(jwks(leaked, next))
	s := newStage(t, []tollgate.Option{keys.through(newTransport(t)).client()})
	old, young := leaked.token(leaked.header(), goodClaims(s.now())), next.token(next.header(), goodClaims(s.now()))
	s.wants(t, old, tollgate.ReasonOK)
	s.wants(t, young, tollgate.ReasonOK)
	keys.set(jwks(next))
	s.add(10 * time.Minute) // without the refresh in the background, the next call waits for one
	s.wants(t, old, tollgate.ReasonCredentialInvalid)
	s.wants(t, young, tollgate.ReasonOK)

	// The same kid with another key is another key.
	next.sign = edForger(t, "").sign
	keys.set(jwks(edForger(t, "next")))
	s.add(10 * time.Minute)
	s.wants(t, next.token(next.header(), goodClaims(s.now())), tollgate.ReasonCredentialInvalid)
}

// keySet is the key set of now.
func (s *stage) keySet(t *testing.T) string {
	t.Helper()
	res, err := http.Get(s.URL + keysPath)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A removed key is refused as soon as the feed tells of it, and stays so when
// the key set that is answered is of before.
func TestVerifierRemovedKeyIsInTheFeed(t *testing.T) {
	keys := &keySet{}
	s := newStage(t, []tollgate.Option{keys.through(newTransport(t)).client()})
	s.RotateKey()
	s.add(5 * time.Second)
	old := s.Token("alice", sdktest.ExpiresAt(s.now().Add(10*time.Hour)))
	s.wants(t, old, tollgate.ReasonOK)
	keys.set(s.keySet(t)) // what is answered from here on
	s.hears(t, s.RemoveKey())
	s.wants(t, old, tollgate.ReasonCredentialInvalid)
	for range 3 {
		s.add(10 * time.Minute)
		s.hears(t, s.KeepAlive())
		s.wants(t, old, tollgate.ReasonCredentialInvalid)
	}
	if keys.fetched < 3 {
		t.Errorf("the stale key set was fetched %d times", keys.fetched)
	}
	keys.set("")
	s.add(10 * time.Minute)
	s.hears(t, s.KeepAlive())
	s.wants(t, s.Token("alice"), tollgate.ReasonOK)
	s.wants(t, old, tollgate.ReasonCredentialInvalid)
	if n := s.Calls("AuthService/Verify"); n != 0 {
		t.Errorf("Tollgate was asked %d times", n)
	}
}

// Who comes after the removal, and gets a key set of before, is told as well.
func TestVerifierRemovedKeyOfBefore(t *testing.T) {
	s, keys := newStage(t, nil), &keySet{}
	s.RotateKey()
	old := s.Token("alice")
	keys.set(s.keySet(t))
	s.RemoveKey()
	late, err := tollgate.NewVerifier(s.Client(keys.through(newTransport(t)).client()), sdktest.Issuer, sdktest.Audience,
		tollgate.WithFeedBound(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	s.verifier = late
	s.hears(t, 0)
	s.wants(t, old, tollgate.ReasonCredentialInvalid)
}
