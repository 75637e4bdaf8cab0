package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"

	"github.com/tollgatehq/tollgate/server/internal/world"
)

// The algorithms of access tokens (RFC 7518 §3.1, RFC 8037). A key has one; it
// is stored with the key and never taken from a token.
const (
	EdDSA = "EdDSA" // Ed25519
	ES256 = "ES256" // ECDSA on P-256 with SHA-256
	RS256 = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256
)

// Algorithms are those that signing keys can have, the default first.
func Algorithms() []string { return []string{EdDSA, ES256, RS256} }

const (
	rsaBits      = 2048 // of keys that we make
	scalarSize   = 32   // of each half of an ES256 signature, in bytes
	leastRSABits = 2048 // RFC 7518 §3.3
	es256Size    = 2 * scalarSize
)

// newPrivateKey makes a private key and the bytes that are sealed: the seed
// for EdDSA, PKCS #8 for the others.
func newPrivateKey(algorithm string, w world.World) (crypto.Signer, []byte, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case EdDSA:
		seed := w.Bytes(ed25519.SeedSize)
		return ed25519.NewKeyFromSeed(seed), seed, nil
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), w.Random)
	case RS256:
		private, err = rsa.GenerateKey(w.Random, rsaBits)
	default:
		return nil, nil, unknownAlgorithm(algorithm)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make a key for %s: %w", algorithm, err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a key for %s: %w", algorithm, err)
	}
	return private, encoded, nil
}

// parsePrivateKey reads what newPrivateKey had sealed. The key fits the
// algorithm. No error holds any of it.
func parsePrivateKey(algorithm string, encoded []byte) (crypto.Signer, error) {
	if algorithm == EdDSA {
		if len(encoded) != ed25519.SeedSize {
			return nil, fmt.Errorf("its private key has %d bytes instead of %d", len(encoded), ed25519.SeedSize)
		}
		return ed25519.NewKeyFromSeed(encoded), nil
	}
	if algorithm != ES256 && algorithm != RS256 {
		return nil, unknownAlgorithm(algorithm)
	}
	private, err := x509.ParsePKCS8PrivateKey(encoded)
	if err != nil {
		return nil, errors.New("its private key is not PKCS #8")
	}
	switch key := private.(type) {
	case *ecdsa.PrivateKey:
		if algorithm == ES256 && key.Curve == elliptic.P256() {
			return key, nil
		}
	case *rsa.PrivateKey:
		if algorithm == RS256 && key.N.BitLen() >= leastRSABits {
			return key, nil
		}
	}
	return nil, fmt.Errorf("its private key is not one for %s", algorithm)
}

func unknownAlgorithm(algorithm string) error {
	return fmt.Errorf("its algorithm %q is not known to this version; upgrade this instance", algorithm)
}

// encodePublicKey is what the column public_key holds: the 32 bytes of an
// Ed25519 key, PKIX for the others.
func encodePublicKey(public crypto.PublicKey) ([]byte, error) {
	if key, ok := public.(ed25519.PublicKey); ok {
		return key, nil
	}
	encoded, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode a public key: %w", err)
	}
	return encoded, nil
}

// signText signs the first two segments of a token (RFC 7515 §5.1).
func signText(private crypto.Signer, text []byte, w world.World) ([]byte, error) {
	switch key := private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, text), nil
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(w.Random, key, digest[:])
		if err != nil {
			return nil, err
		}
		if s.Cmp(halfOrder()) > 0 {
			s.Sub(elliptic.P256().Params().N, s)
		}
		signature := make([]byte, es256Size)
		r.FillBytes(signature[:scalarSize])
		s.FillBytes(signature[scalarSize:])
		return signature, nil
	case *rsa.PrivateKey:
		digest := sha256.Sum256(text)
		return rsa.SignPKCS1v15(w.Random, key, crypto.SHA256, digest[:])
	default:
		return nil, fmt.Errorf("a signing key is a %T", private)
	}
}

// verifyText says whether a signature is that of text. Each signature has one
// spelling: of the two that ECDSA has, (r, s) and (r, n-s), it takes the lower
// one, which is the one that signText writes.
func verifyText(public crypto.PublicKey, text, signature []byte) bool {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(key, text, signature)
	case *ecdsa.PublicKey:
		if len(signature) != es256Size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:scalarSize]), new(big.Int).SetBytes(signature[scalarSize:])
		digest := sha256.Sum256(text)
		return s.Cmp(halfOrder()) <= 0 && ecdsa.Verify(key, digest[:], r, s)
	case *rsa.PublicKey:
		digest := sha256.Sum256(text)
		return len(signature) == key.Size() && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	default:
		return false
	}
}

func halfOrder() *big.Int { return new(big.Int).Rsh(elliptic.P256().Params().N, 1) }

// samePublicKey says whether the column holds this key.
func samePublicKey(public crypto.PublicKey, column []byte) bool {
	encoded, err := encodePublicKey(public)
	return err == nil && bytes.Equal(encoded, column)
}
