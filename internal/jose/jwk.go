package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
)

// jwk is a public key as JSON (RFC 7517 §4): an Ed25519 key has crv and x (RFC
// 8037 §2), one on P-256 y as well (RFC 7518 §6.2), an RSA key n and e (§6.3).
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
	ID        string `json:"kid,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	Use       string `json:"use,omitempty"`
}

// newJWK is a key's required members.
func newJWK(public crypto.PublicKey) (jwk, error) {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return jwk{KeyType: "OKP", Curve: "Ed25519", X: encode64(key)}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 4, x, y
		if err != nil {
			return jwk{}, fmt.Errorf("encode a point: %w", err)
		}
		if len(point) != 1+2*scalarSize {
			return jwk{}, fmt.Errorf("a point has %d bytes", len(point))
		}
		return jwk{KeyType: "EC", Curve: "P-256", X: encode64(point[1 : 1+scalarSize]), Y: encode64(point[1+scalarSize:])}, nil
	case *rsa.PublicKey:
		return jwk{KeyType: "RSA", N: encode64(key.N.Bytes()), E: encode64(big.NewInt(int64(key.E)).Bytes())}, nil
	default:
		return jwk{}, fmt.Errorf("a public key is a %T", public)
	}
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwks is the key set (RFC 7517 §5) of keys, in their order.
func jwks(keys []*signingKey) []byte {
	set := struct {
		Keys []jwk `json:"keys"`
	}{make([]jwk, 0, len(keys))}
	for _, key := range keys {
		entry, err := newJWK(key.public)
		if err != nil {
			panic(err) // it had a thumbprint when it was opened
		}
		entry.ID, entry.Algorithm, entry.Use = key.id, key.algorithm, "sig"
		set.Keys = append(set.Keys, entry)
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(err) // it is made of strings
	}
	return text
}

// thumbprint is the SHA-256 thumbprint (RFC 7638, RFC 8037 §2) of a key: the
// kid that anybody computes the same from the key itself.
func thumbprint(public crypto.PublicKey) (string, error) {
	key, err := newJWK(public)
	if err != nil {
		return "", err
	}
	// The required members in the order of their names.
	members := fmt.Sprintf(`{"crv":%q,"kty":"OKP","x":%q}`, key.Curve, key.X)
	switch key.KeyType {
	case "EC":
		members = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, key.Curve, key.X, key.Y)
	case "RSA":
		members = fmt.Sprintf(`{"e":%q,"kty":"RSA","n":%q}`, key.E, key.N)
	}
	sum := sha256.Sum256([]byte(members))
	return encode64(sum[:]), nil
}
