package jose

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"testing"
	"time"
)

// RFC 8037 appendix A.3 and RFC 7638 §3.1.
func TestThumbprint(t *testing.T) {
	decode := func(text string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(text)
		must(t, err)
		return b
	}
	modulus := decode("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs" +
		"tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI" +
		"SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	for want, public := range map[string]crypto.PublicKey{
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": ed25519.PublicKey(decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")),
		"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs": &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537},
	} {
		if got, err := Thumbprint(public); got != want || err != nil {
			t.Errorf("%T: %s, %v", public, got, err)
		}
	}
}

// entry is a key as an entry of a key set.
func entry(t *testing.T, id, algorithm string, public crypto.PublicKey) map[string]any {
	t.Helper()
	text, err := EncodeKeySet([]Key{{ID: id, Algorithm: algorithm, Public: public}})
	must(t, err)
	var set struct{ Keys []map[string]any }
	must(t, json.Unmarshal(text, &set))
	return set.Keys[0]
}

func encodeEntries(t *testing.T, entries ...any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": entries})
	must(t, err)
	return text
}

// TestKeySet: a key set is read as it was written.
func TestKeySet(t *testing.T) {
	var written []Key
	for algorithm, private := range keys(t) {
		written = append(written, Key{ID: "key for " + algorithm, Algorithm: algorithm, Public: private.Public()})
	}
	text, err := EncodeKeySet(written)
	must(t, err)
	read, err := ParseKeySet(text)
	if err != nil || len(read) != len(written) {
		t.Fatal(read, err)
	}
	for _, key := range written {
		if got := read[key.ID]; got == nil || got.ID != key.ID || !got.Equal(&key) {
			t.Errorf("%s: %+v", key.ID, got)
		}
		for _, other := range written {
			if other.ID != key.ID && key.Equal(&other) {
				t.Errorf("%s equals %s", key.ID, other.ID)
			}
		}
	}
	if _, err := EncodeKeySet([]Key{{ID: "secret", Public: []byte("secret")}}); err == nil {
		t.Error("encoded a secret")
	}
}

// TestParseKeySetSkips: an entry of another kind, or a bad one, is left out and
// the rest taken.
func TestParseKeySetSkips(t *testing.T) {
	all := keys(t)
	good := entry(t, "good", EdDSA, all[EdDSA].Public())
	entries := []any{1, "text", nil, good}
	change := func(algorithm, name string, value any) {
		bad := maps.Clone(entry(t, fmt.Sprintf("bad %d", len(entries)), algorithm, all[algorithm].Public()))
		if bad[name] = value; value == nil {
			delete(bad, name)
		}
		entries = append(entries, bad)
	}
	for _, c := range []struct {
		algorithm, name string
		value           any
	}{
		{EdDSA, "kty", "oct"}, {EdDSA, "crv", "X25519"}, {EdDSA, "crv", "Ed448"}, {EdDSA, "alg", ES256},
		{EdDSA, "alg", nil}, {EdDSA, "alg", "none"}, {EdDSA, "use", "enc"}, {EdDSA, "x", "AA"},
		{EdDSA, "kid", nil}, {EdDSA, "kid", 7}, {ES256, "alg", EdDSA}, {ES256, "crv", "P-384"},
		{ES256, "y", good["x"]}, {ES256, "x", nil}, {RS256, "alg", "PS256"}, {RS256, "e", "AA"},
		{RS256, "e", "AQ"}, {RS256, "e", "Ag"}, {RS256, "n", nil}, {RS256, "n", "AQAB"},
	} {
		change(c.algorithm, c.name, c.value)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	entries = append(entries, entry(t, "weak", RS256, weak.Public()))
	read, err := ParseKeySet(encodeEntries(t, entries...))
	if err != nil || len(read) != 1 || read["good"] == nil {
		t.Errorf("%v, %v", read, err)
	}
}

// TestParseKeySetRefuses: such a set says nothing.
func TestParseKeySetRefuses(t *testing.T) {
	key := entry(t, "key", EdDSA, keys(t)[EdDSA].Public())
	for name, text := range map[string][]byte{
		"no JSON": []byte("<html>"), "nothing": []byte("{}"), "no keys": encodeEntries(t),
		"two alike": encodeEntries(t, key, key),
	} {
		if read, err := ParseKeySet(text); err == nil {
			t.Errorf("%s: %v", name, read)
		}
	}
}

// TestParseKeySetOfRotations: all the keys that the server may publish at a time
// are read, the largest ones, too.
func TestParseKeySetOfRotations(t *testing.T) {
	var many []Key
	for published := time.Duration(0); published < MaxTokenTTL+2*KeyLeadTime; published += KeyLeadTime {
		key := Key{Algorithm: RS256, Public: keys(t)[RS256].Public()}
		thumbprint, err := Thumbprint(key.Public)
		must(t, err)
		suffix := fmt.Sprint(len(many))
		key.ID = thumbprint[len(suffix):] + suffix
		many = append(many, key)
	}
	text, err := EncodeKeySet(many)
	must(t, err)
	read, err := ParseKeySet(text)
	if err != nil || len(read) != len(many) || len(text) > MaxKeySetSize {
		t.Errorf("%d of %d keys in %d bytes: %v", len(read), len(many), len(text), err)
	}
}
