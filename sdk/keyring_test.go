package tollgate_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// signer signs tokens with a key of its own.
type signer struct {
	id, algorithm string
	private       crypto.Signer
}

func newSigner(t *testing.T, id, algorithm string) signer {
	t.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(nil)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), nil)
	case jose.RS256:
		private, err = rsa.GenerateKey(nil, 2048)
	}
	must(t, err)
	return signer{id, algorithm, private}
}

// token returns an access token of alice whose header names a key and an
// algorithm.
func (s signer) token(t *testing.T, algorithm, id string, now time.Time) string {
	t.Helper()
	claims, err := json.Marshal(map[string]any{
		"iss": sdktest.Issuer, "aud": sdktest.Audience, "sub": alicesUser, "sid": "s-1", "jti": "t-1",
		"client_id": "tollgate", "iat": now.Unix(), "exp": now.Add(15 * time.Minute).Unix(),
	})
	must(t, err)
	token, err := jose.Encode(jose.EncodeHeader(algorithm, id, jose.TypeAccessToken), claims, s.private)
	must(t, err)
	return token
}

func (s signer) good(t *testing.T, now time.Time) string { return s.token(t, s.algorithm, s.id, now) }

// keySet is a key set that a test chooses; nil: the server's own.
type keySet struct {
	text    atomic.Pointer[string]
	fetched atomic.Int32
}

func (k *keySet) set(t *testing.T, signers ...signer) {
	t.Helper()
	var keys []jose.Key
	for _, s := range signers {
		keys = append(keys, jose.Key{ID: s.id, Algorithm: s.algorithm, Public: s.private.Public()})
	}
	text, err := jose.EncodeKeySet(keys)
	must(t, err)
	k.text.Store(new(string(text)))
}

// replaceKeys answers requests for the key set of f.
func (f *fixture) replaceKeys() *keySet {
	k := &keySet{}
	f.intercept(func(r *http.Request) (*http.Response, error) {
		text := k.text.Load()
		if r.URL.Path != keysPath || text == nil {
			return f.next.RoundTrip(r)
		}
		k.fetched.Add(1)
		return &http.Response{
			StatusCode: 200, Status: "200 OK", Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(*text)),
		}, nil
	})
	return k
}

// TestVerifierAlgorithm: the key alone chooses the algorithm.
func TestVerifierAlgorithm(t *testing.T) {
	t.Parallel()
	var all []signer
	for _, algorithm := range jose.Algorithms() {
		all = append(all, newSigner(t, "key for "+algorithm, algorithm))
	}
	f := newFixture(t)
	f.replaceKeys().set(t, all...)
	f.startVerifier(t, tollgate.VerifierConfig{})
	f.waitFor(t, 0)
	for _, s := range all {
		f.wantReason(t, s.good(t, f.now()), tollgate.ReasonOK)
		for _, algorithm := range []string{"EdDSA", "ES256", "RS256", "HS256", "PS256", "none", "NONE", "eddsa"} {
			if algorithm != s.algorithm {
				f.wantReason(t, s.token(t, algorithm, s.id, f.now()), tollgate.ReasonCredentialInvalid)
			}
		}
		for _, other := range all {
			if other.id != s.id { // signed by one, names the other
				f.wantReason(t, s.token(t, s.algorithm, other.id, f.now()), tollgate.ReasonCredentialInvalid)
				f.wantReason(t, s.token(t, other.algorithm, other.id, f.now()), tollgate.ReasonCredentialInvalid)
			}
		}
		good := s.good(t, f.now())
		f.wantReason(t, good[:strings.LastIndexByte(good, '.')+1], tollgate.ReasonCredentialInvalid) // unsigned
	}
}

func TestVerifierBadKeySet(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no JSON":  "<html>",
		"no keys":  `{"keys":[]}`,
		"too long": `{"keys":[]}` + strings.Repeat(" ", jose.MaxKeySetSize),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.replaceKeys().text.Store(&text)
			f.startVerifier(t, tollgate.VerifierConfig{})
			f.wantNoAnswer(t, f.Token("alice"))
		})
	}
}

// TestVerifierKeySetAge: the keys are fetched again at the age to which Tollgate
// lets them be kept.
func TestVerifierKeySetAge(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	f.add(jose.KeySetMaxAge - time.Nanosecond)
	f.wantReason(t, f.Token("alice"), tollgate.ReasonOK)
	if n := f.Calls(keysPath); n != 1 {
		t.Fatalf("fetched %d times before the end", n)
	}
	f.add(time.Nanosecond)
	f.RotateKey()
	f.wantReason(t, f.Token("alice"), tollgate.ReasonOK) // waits for the fetch
	if n := f.Calls(keysPath); n != 2 {
		t.Fatalf("fetched %d times at the end", n)
	}
}

// TestVerifierUnknownKeys: tokens that name unknown keys share a fetch.
func TestVerifierUnknownKeys(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	for round := range 3 {
		f.add(5 * time.Second)
		var all sync.WaitGroup
		for i := range 50 {
			token := newSigner(t, fmt.Sprintf("unknown-%d-%d", round, i), jose.EdDSA).good(t, f.now())
			all.Go(func() { f.wantReason(t, token, tollgate.ReasonCredentialInvalid) })
		}
		all.Wait()
		if n := f.Calls(keysPath); n != round+2 {
			t.Fatalf("the keys were fetched %d times after %d intervals", n, round+1)
		}
	}
	f.RotateKey()
	token := f.Token("alice")
	f.wantReason(t, token, tollgate.ReasonCredentialInvalid) // too soon to fetch
	f.add(5 * time.Second)
	f.wantReason(t, token, tollgate.ReasonOK)
}

func TestVerifierStaleKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.startVerifier(t, tollgate.VerifierConfig{FeedBound: 24 * time.Hour, StaleKeys: time.Hour})
	f.waitFor(t, 0)
	token := f.Token("alice", sdktest.ExpiresAt(f.now().Add(10*time.Hour)))
	f.wantReason(t, token, tollgate.ReasonOK)
	f.SetDown(true)
	f.add(time.Hour)
	f.wantReason(t, token, tollgate.ReasonOK)
	f.add(time.Second)
	f.wantNoAnswer(t, token) // too soon to fetch
	f.add(5 * time.Second)
	f.wantNoAnswer(t, token) // the fetch failed
	f.SetDown(false)
	f.add(5 * time.Second)
	f.wantReason(t, token, tollgate.ReasonOK)
}

// TestVerifierKeyLeavesSet: the tokens of a key that left the set are refused,
// those that were verified before included.
func TestVerifierKeyLeavesSet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	keys := f.replaceKeys()
	old, next := newSigner(t, "old", jose.EdDSA), newSigner(t, "next", jose.EdDSA)
	keys.set(t, old, next)
	f.startVerifier(t, tollgate.VerifierConfig{})
	f.waitFor(t, 0)
	oldToken, nextToken := old.good(t, f.now()), next.good(t, f.now())
	f.wantReason(t, oldToken, tollgate.ReasonOK)
	f.wantReason(t, nextToken, tollgate.ReasonOK)
	keys.set(t, next)
	f.add(10 * time.Minute)
	f.wantReason(t, oldToken, tollgate.ReasonCredentialInvalid)
	f.wantReason(t, nextToken, tollgate.ReasonOK)

	keys.set(t, newSigner(t, "next", jose.EdDSA)) // the same id is not the same key
	f.add(10 * time.Minute)
	f.wantReason(t, next.good(t, f.now()), tollgate.ReasonCredentialInvalid)
}

// serverKeys returns the key set of now.
func (f *fixture) serverKeys(t *testing.T) *string {
	t.Helper()
	res, err := http.Get(f.URL + keysPath)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return new(string(text))
}

// TestVerifierRemovedKey: a removed key is refused as soon as the feed says so,
// and stays refused when the key set comes from a cache.
func TestVerifierRemovedKey(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	keys := f.replaceKeys()
	f.RotateKey()
	f.add(5 * time.Second)
	old := f.Token("alice", sdktest.ExpiresAt(f.now().Add(10*time.Hour)))
	f.wantReason(t, old, tollgate.ReasonOK)
	keys.text.Store(f.serverKeys(t)) // what is fetched from here on
	f.waitFor(t, f.RemoveKey())
	f.wantReason(t, old, tollgate.ReasonCredentialInvalid)
	for range 3 {
		f.add(10 * time.Minute)
		f.waitFor(t, f.KeepAlive())
		f.wantReason(t, old, tollgate.ReasonCredentialInvalid)
	}
	if n := keys.fetched.Load(); n < 3 {
		t.Errorf("the stale key set was fetched %d times", n)
	}
	f.startVerifier(t, tollgate.VerifierConfig{}) // begins with the stale key set
	f.waitFor(t, 0)
	f.wantReason(t, old, tollgate.ReasonCredentialInvalid)

	keys.text.Store(nil)
	f.add(10 * time.Minute)
	f.waitFor(t, f.KeepAlive())
	f.wantReason(t, f.Token("alice"), tollgate.ReasonOK)
	f.wantReason(t, old, tollgate.ReasonCredentialInvalid)
	f.wantVerifyCalls(t, 0)
}
