package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
)

// jwk is a public Ed25519 key as JSON (RFC 8037 §2).
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
}

// jwks is the key set (RFC 7517 §5) of keys, in their order.
func jwks(keys []*signingKey) []byte {
	set := struct {
		Keys []jwk `json:"keys"`
	}{make([]jwk, 0, len(keys))}
	for _, key := range keys {
		set.Keys = append(set.Keys, jwk{
			KeyType: "OKP", Curve: "Ed25519", X: base64.RawURLEncoding.EncodeToString(key.public),
			ID: key.id, Algorithm: key.algorithm, Use: "sig",
		})
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(err) // it is made of strings
	}
	return text
}

// thumbprint is the SHA-256 thumbprint (RFC 7638, RFC 8037 §2) of a key: the
// kid that anybody computes the same from the key itself.
func thumbprint(public ed25519.PublicKey) string {
	x := base64.RawURLEncoding.EncodeToString(public)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
