package sdk

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

const (
	maxKeySet = 64 << 10 // bytes of a key set
	maxKeys   = 32       // in a key set
)

// publicKey verifies signatures of one algorithm, the one that the key set
// gives it (RFC 8725 §3.1); a token has no say in it.
type publicKey struct {
	id        string
	algorithm string
	material  []byte // equal for equal keys
	verify    func(signed string, signature []byte) bool
}

func (k *publicKey) equal(other *publicKey) bool {
	return other != nil && k.algorithm == other.algorithm && bytes.Equal(k.material, other.material)
}

type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
	N         string `json:"n"`
	E         string `json:"e"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
}

// parseKeys reads a JSON Web Key Set (RFC 7517 §5) by kid. Entries of kinds
// that this package does not know are left out.
func parseKeys(text []byte) (map[string]*publicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys, more than %d", len(set.Keys), maxKeys)
	}
	keys := make(map[string]*publicKey, len(set.Keys))
	for _, raw := range set.Keys {
		var entry jwk
		if json.Unmarshal(raw, &entry) != nil || entry.ID == "" || entry.Use != "" && entry.Use != "sig" {
			continue
		}
		key := entry.key()
		if key == nil {
			continue
		}
		if keys[entry.ID] != nil {
			return nil, fmt.Errorf("the key set has two keys with the kid %q", entry.ID)
		}
		key.id, key.algorithm = entry.ID, entry.Algorithm
		keys[entry.ID] = key
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no key of a known kind")
	}
	return keys, nil
}

// key is nil for a key of another kind, and for a bad one.
func (j jwk) key() *publicKey {
	switch {
	case j.KeyType == "OKP" && j.Curve == "Ed25519" && j.Algorithm == "EdDSA": // RFC 8037
		return j.ed25519()
	case j.KeyType == "EC" && j.Curve == "P-256" && j.Algorithm == "ES256": // RFC 7518 §3.4
		return j.p256()
	case j.KeyType == "RSA" && j.Algorithm == "RS256": // RFC 7518 §3.3
		return j.rsa()
	}
	return nil
}

func (j jwk) ed25519() *publicKey {
	x, ok := decodeSegment(j.X)
	if !ok || len(x) != ed25519.PublicKeySize {
		return nil
	}
	public := ed25519.PublicKey(x)
	return &publicKey{material: x, verify: func(signed string, signature []byte) bool {
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(public, []byte(signed), signature)
	}}
}

// p256 takes a signature in the low-s form only, as Tollgate makes them: (r, s)
// and (r, n-s) are both good for the same bytes, and a token must have one
// spelling.
func (j jwk) p256() *publicKey {
	const size = 32
	half := new(big.Int).Rsh(elliptic.P256().Params().N, 1)
	x, okX := decodeSegment(j.X)
	y, okY := decodeSegment(j.Y)
	if !okX || !okY || len(x) != size || len(y) != size {
		return nil
	}
	point := append(append([]byte{4}, x...), y...)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil // not on the curve
	}
	return &publicKey{material: point, verify: func(signed string, signature []byte) bool {
		if len(signature) != 2*size {
			return false
		}
		sum := sha256.Sum256([]byte(signed))
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return s.Cmp(half) <= 0 && ecdsa.Verify(public, sum[:], r, s)
	}}
}

// rsa takes keys of 2048 bits, which RFC 7518 §3.3 asks for, to 4096, above
// which a check takes too long.
func (j jwk) rsa() *publicKey {
	n, okN := decodeSegment(j.N)
	e, okE := decodeSegment(j.E)
	if !okN || !okE || len(n) < 256 || len(n) > 512 || n[0] == 0 || len(e) == 0 || len(e) > 4 {
		return nil
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e).Int64()
	if modulus.BitLen() < 2048 || exponent < 3 || exponent > 1<<31-1 || exponent%2 == 0 {
		return nil
	}
	public := &rsa.PublicKey{N: modulus, E: int(exponent)}
	material := append(append([]byte{}, e...), n...)
	return &publicKey{material: material, verify: func(signed string, signature []byte) bool {
		sum := sha256.Sum256([]byte(signed))
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	}}
}
