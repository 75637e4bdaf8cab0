package jose

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
)

// MaxKeySetSize is the size in bytes above which a key set is not read. It has
// space for all the keys that the server may publish at a time: one every
// KeyLeadTime, each for as long as the longest-lived token.
const MaxKeySetSize = 256 << 10

// Key is a public key of a key set. It verifies signatures of one algorithm, the
// one that the key set gives it (RFC 8725 §3.1).
type Key struct {
	ID        string // kid
	Algorithm string // one of Algorithms
	Public    crypto.PublicKey
}

// Equal reports whether both have the same algorithm and key, whatever their
// ids.
func (k *Key) Equal(other *Key) bool {
	if other == nil || k.Algorithm != other.Algorithm {
		return false
	}
	public, ok := k.Public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(other.Public)
}

// Verify reports whether the token's signature is this key's.
func (k *Key) Verify(t Token) bool { return Verify(k.Public, t.Signed, t.Signature) }

// ParseKeySet reads a JSON Web Key Set (RFC 7517 §5) by kid. Entries of kinds
// that this package does not know are left out. A set with two keys of one kid,
// or with none left, is an error.
func ParseKeySet(text []byte) (map[string]*Key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	keys := make(map[string]*Key, len(set.Keys))
	for _, raw := range set.Keys {
		var entry jwk
		if json.Unmarshal(raw, &entry) != nil || entry.ID == "" || entry.Use != "" && entry.Use != "sig" {
			continue
		}
		public := entry.publicKey()
		if public == nil {
			continue
		}
		if keys[entry.ID] != nil {
			return nil, fmt.Errorf("the key set has two keys with the kid %q", entry.ID)
		}
		keys[entry.ID] = &Key{ID: entry.ID, Algorithm: entry.Algorithm, Public: public}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no key of a known kind")
	}
	return keys, nil
}

// EncodeKeySet returns the key set (RFC 7517 §5) of keys, in their order. The
// error says that a key is of no known kind.
func EncodeKeySet(keys []Key) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{make([]jwk, 0, len(keys))}
	for _, key := range keys {
		entry, err := newJWK(key.Public)
		if err != nil {
			return nil, fmt.Errorf("encode the key %s: %w", key.ID, err)
		}
		entry.ID, entry.Algorithm, entry.Use = key.ID, key.Algorithm, "sig"
		set.Keys = append(set.Keys, entry)
	}
	return json.Marshal(set)
}
