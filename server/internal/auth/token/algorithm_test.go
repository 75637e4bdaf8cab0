package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"

	"github.com/golang-jwt/jwt/v5"
	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// keyOf makes one key of each algorithm for all tests: RSA keys take long.
var keyOf = func() func(testing.TB, string) *signingKey {
	var mu sync.Mutex
	made := map[string]*signingKey{}
	return func(t testing.TB, algorithm string) *signingKey {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if made[algorithm] == nil {
			private, encoded, err := newPrivateKey(algorithm)
			backendtest.Must(t, err)
			parsed, err := parsePrivateKey(algorithm, encoded)
			backendtest.Must(t, err)
			if p, ok := parsed.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !p.Equal(private.Public()) {
				t.Fatalf("%s: the key is another one when it is read again", algorithm)
			}
			made[algorithm] = testKeyOf(algorithm, parsed)
		}
		return made[algorithm]
	}
}()

// publicOf reads a key of a key set as another program would.
func publicOf(entry map[string]string) (crypto.PublicKey, error) {
	var bad error
	member := func(name string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(entry[name])
		if err != nil || len(b) == 0 {
			bad = fmt.Errorf("member %s is %q: %w", name, entry[name], err)
		}
		return b
	}
	var public crypto.PublicKey
	switch entry["kty"] + entry["crv"] {
	case "OKPEd25519":
		public = ed25519.PublicKey(member("x"))
	case "ECP-256":
		x, y := member("x"), member("y")
		if len(x) != 32 || len(y) != 32 { // RFC 7518 §6.2.1.2
			return nil, errors.New("coordinates are not of 32 bytes")
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, err
		}
		public = key
	case "RSA":
		public = &rsa.PublicKey{N: new(big.Int).SetBytes(member("n")), E: int(new(big.Int).SetBytes(member("e")).Int64())}
	default:
		return nil, fmt.Errorf("a key of type %s %s", entry["kty"], entry["crv"])
	}
	return public, bad
}

// Tokens of every algorithm are verified here, and by another library with
// nothing but the key set.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	for _, algorithm := range jose.Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			k := testSigner(t, clock.NewFake(issued), keyOf(t, algorithm))
			token := mustSign(t, k, testClaims())
			k.expect(t, "its token", token, caller.ReasonOK)

			var set struct{ Keys []map[string]string }
			if err := json.Unmarshal(k.set.Load().jwks, &set); err != nil || len(set.Keys) != 1 {
				t.Fatal(err, set)
			}
			members := map[string]int{jose.EdDSA: 6, jose.ES256: 7, jose.RS256: 6}
			entry := set.Keys[0]
			if len(entry) != members[algorithm] || entry["alg"] != algorithm || entry["use"] != "sig" || entry["kid"] != keyOf(t, algorithm).id {
				t.Errorf("key set entry %v", entry)
			}
			parser := jwt.NewParser(jwt.WithValidMethods([]string{algorithm}), jwt.WithStrictDecoding(),
				jwt.WithIssuer("https://tollgate.test"), jwt.WithAudience("tollgate"), jwt.WithExpirationRequired(),
				jwt.WithTimeFunc(func() time.Time { return issued }))
			backendtest.Must(t, faulttest.Err(parser.Parse(token, func(*jwt.Token) (any, error) { return publicOf(entry) })))
		})
	}
}

// A header decides nothing: under each key's id, only the key's own algorithm
// and the key itself make a good token.
func TestAlgorithmConfusion(t *testing.T) {
	t.Parallel()
	fake := clock.NewFake(issued)
	keys := []*signingKey{keyOf(t, jose.EdDSA), keyOf(t, jose.ES256), keyOf(t, jose.RS256)}
	k := testSigner(t, fake, keys...)
	body, _ := base64.RawURLEncoding.DecodeString(strings.Split(mustSign(t, k, testClaims()), ".")[1])
	for _, named := range keys {
		for _, algorithm := range []string{jose.EdDSA, jose.ES256, jose.RS256, "HS256", "HS512", "none", "PS256", "RS512", "ES384", "Ed25519", ""} {
			header := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, algorithm, named.id)
			for _, signer := range keys {
				want := caller.ReasonCredentialInvalid
				if algorithm == named.algorithm && signer == named {
					want = caller.ReasonOK
				}
				k.expect(t, algorithm+" under the id of "+named.algorithm+" by "+signer.algorithm, forge(signer, header, string(body)), want)
			}
			signed := encode(header) + "." + encode(string(body))
			pkix, err := x509.MarshalPKIXPublicKey(named.public)
			backendtest.Must(t, err)
			raw, err := encodePublicKey(named.public)
			backendtest.Must(t, err)
			for _, secret := range [][]byte{pkix, raw, k.set.Load().jwks, nil} {
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(signed))
				k.expect(t, algorithm+" with an HMAC of the public key", signed+"."+encode(string(mac.Sum(nil))), caller.ReasonCredentialInvalid)
			}
		}
	}
}

func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	pkcs8 := func(private any) []byte {
		encoded, err := x509.MarshalPKCS8PrivateKey(private)
		backendtest.Must(t, err)
		return encoded
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	backendtest.Must(t, err)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	backendtest.Must(t, err)
	for name, c := range map[string]struct {
		algorithm string
		encoded   []byte
	}{
		"a short seed":      {jose.EdDSA, make([]byte, 31)},
		"PKCS #8 of a seed": {jose.EdDSA, pkcs8(keyOf(t, jose.EdDSA).private)},
		"another curve":     {jose.ES256, pkcs8(p384)},
		"an RSA key":        {jose.ES256, pkcs8(keyOf(t, jose.RS256).private)},
		"an Ed25519 key":    {jose.ES256, pkcs8(keyOf(t, jose.EdDSA).private)},
		"a P-256 key":       {jose.RS256, pkcs8(keyOf(t, jose.ES256).private)},
		"a short RSA key":   {jose.RS256, pkcs8(small)},
		"rubbish":           {jose.RS256, []byte("rubbish")},
		"nothing":           {jose.ES256, nil},
		"another algorithm": {"HS256", make([]byte, 32)},
	} {
		if _, err := parsePrivateKey(c.algorithm, c.encoded); err == nil {
			t.Errorf("%s was taken for %s", name, c.algorithm)
		}
	}
	if _, _, err := newPrivateKey("HS256"); err == nil {
		t.Error("made a key of an unknown algorithm")
	}
}
