package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/tollgatehq/tollgate/internal/jose"
)

const rsaBits = 2048 // of keys that we make

// newPrivateKey makes a private key and the bytes that are sealed: the seed
// for EdDSA, PKCS #8 for the others.
func newPrivateKey(algorithm string) (crypto.Signer, []byte, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case jose.EdDSA:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, key.Seed(), err
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.RS256:
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
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
	if algorithm == jose.EdDSA {
		if len(encoded) != ed25519.SeedSize {
			return nil, fmt.Errorf("its private key has %d bytes instead of %d", len(encoded), ed25519.SeedSize)
		}
		return ed25519.NewKeyFromSeed(encoded), nil
	}
	if algorithm != jose.ES256 && algorithm != jose.RS256 {
		return nil, unknownAlgorithm(algorithm)
	}
	private, err := x509.ParsePKCS8PrivateKey(encoded)
	if err != nil {
		return nil, errors.New("its private key is not PKCS #8")
	}
	switch key := private.(type) {
	case *ecdsa.PrivateKey:
		if algorithm == jose.ES256 && key.Curve == elliptic.P256() {
			return key, nil
		}
	case *rsa.PrivateKey:
		if algorithm == jose.RS256 && key.N.BitLen() >= jose.MinRSABits {
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

// samePublicKey says whether the column holds this key.
func samePublicKey(public crypto.PublicKey, column []byte) bool {
	encoded, err := encodePublicKey(public)
	return err == nil && bytes.Equal(encoded, column)
}
