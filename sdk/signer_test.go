package tollgate_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// tripper stands between a client and its server.
type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (f tripper) client() tollgate.Option { return tollgate.WithHTTPClient(&http.Client{Transport: f}) }

// newTransport is one of a test's own, without connections of others.
func newTransport(t *testing.T) *http.Transport {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

const keysPath = "/.well-known/jwks.json"

// keySet is a key set that a test writes; an empty one is the server's own.
type keySet struct {
	mu      sync.Mutex
	text    string
	fetched int
}

func (k *keySet) set(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.text = text
}

// through answers requests for keys and passes on all else.
func (k *keySet) through(next http.RoundTripper) tripper {
	return func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != keysPath {
			return next.RoundTrip(r)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.text == "" {
			return next.RoundTrip(r)
		}
		k.fetched++
		return &http.Response{
			StatusCode: 200, Status: "200 OK", Header: http.Header{}, Request: r, Body: io.NopCloser(strings.NewReader(k.text)),
		}, nil
	}
}

// forger signs whatever a test likes.
type forger struct {
	id, algorithm string
	jwk           map[string]any
	sign          func([]byte) []byte
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func edForger(t testing.TB, id string) *forger {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &forger{
		id: id, algorithm: "EdDSA", sign: func(b []byte) []byte { return ed25519.Sign(private, b) },
		jwk: map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public), "kid": id, "alg": "EdDSA", "use": "sig"},
	}
}

func ecForger(t testing.TB, id string) *forger {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return &forger{
		id: id, algorithm: "ES256",
		sign: func(b []byte) []byte {
			sum := sha256.Sum256(b)
			r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			if n := elliptic.P256().Params().N; s.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
				s.Sub(n, s)
			}
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		},
		jwk: map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:]), "kid": id, "alg": "ES256"},
	}
}

func rsaForger(t testing.TB, id string, bits int) *forger {
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return &forger{
		id: id, algorithm: "RS256",
		sign: func(b []byte) []byte {
			sum := sha256.Sum256(b)
			signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return signature
		},
		jwk: map[string]any{
			"kty": "RSA", "n": b64(private.N.Bytes()), "e": b64(big.NewInt(int64(private.E)).Bytes()), "kid": id, "alg": "RS256",
		},
	}
}

// jwks is the key set of forgers and of other entries.
func jwks(entries ...any) string {
	keys := []any{}
	for _, entry := range entries {
		if f, ok := entry.(*forger); ok {
			entry = f.jwk
		}
		keys = append(keys, entry)
	}
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (f *forger) header() map[string]any {
	return map[string]any{"alg": f.algorithm, "kid": f.id, "typ": "at+jwt"}
}

// text signs a header and claims as they stand.
func (f *forger) text(header, claims string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	return signed + "." + b64(f.sign([]byte(signed)))
}

func (f *forger) token(header, claims map[string]any) string {
	return f.text(jsonText(header), jsonText(claims))
}

func jsonText(object map[string]any) string {
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(object); err != nil {
		panic(err)
	}
	return strings.TrimSpace(text.String())
}

func goodClaims(now time.Time) map[string]any {
	return map[string]any{
		"iss": sdktest.Issuer, "aud": sdktest.Audience, "sub": "user-alice", "sid": "s-1", "jti": "t-1",
		"client_id": "tollgate", "iat": now.Unix(), "exp": now.Add(15 * time.Minute).Unix(),
	}
}

// with is a copy with one member set, or removed when the value is nil.
func with(object map[string]any, name string, value any) map[string]any {
	object = maps.Clone(object)
	if object[name] = value; value == nil {
		delete(object, name)
	}
	return object
}

func decode(text string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(text) }
