package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
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
		return jwk{KeyType: "OKP", Curve: "Ed25519", X: encodeSegment(key)}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 4, x, y
		if err != nil {
			return jwk{}, fmt.Errorf("encode a point: %w", err)
		}
		if len(point) != 1+2*scalarSize {
			return jwk{}, fmt.Errorf("a point has %d bytes", len(point))
		}
		x, y := point[1:1+scalarSize], point[1+scalarSize:]
		return jwk{KeyType: "EC", Curve: "P-256", X: encodeSegment(x), Y: encodeSegment(y)}, nil
	case *rsa.PublicKey:
		return jwk{KeyType: "RSA", N: encodeSegment(key.N.Bytes()), E: encodeSegment(big.NewInt(int64(key.E)).Bytes())}, nil
	default:
		return jwk{}, fmt.Errorf("a public key is a %T", public)
	}
}

// Thumbprint returns the SHA-256 thumbprint (RFC 7638, RFC 8037 §2) of a key:
// the kid that anybody computes the same from the key itself.
func Thumbprint(public crypto.PublicKey) (string, error) {
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
	return encodeSegment(sum[:]), nil
}

// publicKey reads the key; nil for one of another kind, and for a bad one. The
// algorithm must be there and fit the key's type.
func (j jwk) publicKey() crypto.PublicKey {
	switch {
	case j.KeyType == "OKP" && j.Curve == "Ed25519" && j.Algorithm == EdDSA: // RFC 8037
		return j.ed25519()
	case j.KeyType == "EC" && j.Curve == "P-256" && j.Algorithm == ES256: // RFC 7518 §3.4
		return j.p256()
	case j.KeyType == "RSA" && j.Algorithm == RS256: // RFC 7518 §3.3
		return j.rsa()
	}
	return nil
}

func (j jwk) ed25519() crypto.PublicKey {
	x, ok := decodeSegment(j.X)
	if !ok || len(x) != ed25519.PublicKeySize {
		return nil
	}
	return ed25519.PublicKey(x)
}

func (j jwk) p256() crypto.PublicKey {
	x, okX := decodeSegment(j.X)
	y, okY := decodeSegment(j.Y)
	if !okX || !okY || len(x) != scalarSize || len(y) != scalarSize {
		return nil
	}
	point := append(append([]byte{4}, x...), y...)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil // not on the curve
	}
	return public
}

// rsa takes keys of 2048 bits, which RFC 7518 §3.3 asks for, to 4096.
func (j jwk) rsa() crypto.PublicKey {
	n, okN := decodeSegment(j.N)
	e, okE := decodeSegment(j.E)
	if !okN || !okE || len(n) < MinRSABits/8 || len(n) > maxRSABits/8 || n[0] == 0 || len(e) == 0 || len(e) > 4 {
		return nil
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e).Int64()
	if modulus.BitLen() < MinRSABits || exponent < 3 || exponent > 1<<31-1 || exponent%2 == 0 {
		return nil
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent)}
}
