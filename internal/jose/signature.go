package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"
)

// The algorithms of access tokens (RFC 7518 §3.1, RFC 8037). A key has one, by
// its type; no token has a say in it (RFC 8725 §3.1).
const (
	EdDSA = "EdDSA" // Ed25519
	ES256 = "ES256" // ECDSA on P-256 with SHA-256
	RS256 = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256
)

// Algorithms returns those that keys can have, the default first.
func Algorithms() []string { return []string{EdDSA, ES256, RS256} }

const (
	// MinRSABits is the size of the smallest RSA key (RFC 7518 §3.3).
	MinRSABits = 2048

	maxRSABits = 4096 // above it a check takes too long
	scalarSize = 32   // of each half of an ES256 signature and of each coordinate of its keys, in bytes
	es256Size  = 2 * scalarSize
)

// halfOrder is half the order of P-256; the lower of the two spellings of a
// signature is not above it. Nothing writes to it.
var halfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

// Sign signs the first two segments of a token (RFC 7515 §5.1) with the key's
// algorithm. Of the two spellings of an ES256 signature it makes the lower one.
func Sign(private crypto.Signer, signed string) ([]byte, error) {
	switch key := private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, []byte(signed)), nil
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256([]byte(signed))
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			return nil, err
		}
		if s.Cmp(halfOrder) > 0 {
			s.Sub(elliptic.P256().Params().N, s)
		}
		signature := make([]byte, es256Size)
		r.FillBytes(signature[:scalarSize])
		s.FillBytes(signature[scalarSize:])
		return signature, nil
	case *rsa.PrivateKey:
		digest := sha256.Sum256([]byte(signed))
		return rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	default:
		return nil, fmt.Errorf("a signing key is a %T", private)
	}
}

// Verify reports whether a signature is that of the first two segments of a
// token, by the key's algorithm. Each signature has one spelling: of the two
// that ECDSA has, (r, s) and (r, n-s), it takes the lower one, which is the one
// that Sign makes. No signature is good for a key of another kind.
func Verify(public crypto.PublicKey, signed string, signature []byte) bool {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return len(key) == ed25519.PublicKeySize && len(signature) == ed25519.SignatureSize &&
			ed25519.Verify(key, []byte(signed), signature)
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() || len(signature) != es256Size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:scalarSize]), new(big.Int).SetBytes(signature[scalarSize:])
		digest := sha256.Sum256([]byte(signed))
		return s.Cmp(halfOrder) <= 0 && ecdsa.Verify(key, digest[:], r, s)
	case *rsa.PublicKey:
		digest := sha256.Sum256([]byte(signed))
		return len(signature) == key.Size() && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	default:
		return false
	}
}
