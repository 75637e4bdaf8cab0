package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"slices"
	"sync"
	"testing"
)

// privateKeys is a key of each algorithm, by its name. RSA keys take long, so
// all tests share them.
var privateKeys = sync.OnceValues(func() (map[string]crypto.Signer, error) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rs, err := rsa.GenerateKey(rand.Reader, MinRSABits)
	return map[string]crypto.Signer{EdDSA: ed, ES256: ec, RS256: rs}, err
})

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	all, err := privateKeys()
	must(t, err)
	return all
}

func sign(t *testing.T, private crypto.Signer, text string) []byte {
	t.Helper()
	signature, err := Sign(private, text)
	must(t, err)
	return signature
}

// TestVerify: only the key that signed, only the text that it signed, and only
// the signature itself.
func TestVerify(t *testing.T) {
	const text = "header.payload"
	for algorithm, private := range keys(t) {
		signature := sign(t, private, text)
		for other, key := range keys(t) {
			if got := Verify(key.Public(), text, signature); got != (other == algorithm) {
				t.Errorf("a signature of %s by a key for %s: %t", algorithm, other, got)
			}
		}
		public := private.Public()
		for i := range signature {
			forged := slices.Clone(signature)
			if forged[i] ^= 1; Verify(public, text, forged) {
				t.Errorf("%s: byte %d changed", algorithm, i)
			}
		}
		for name, forged := range map[string][]byte{
			"none": nil, "cut": signature[:len(signature)-1], "longer": append(slices.Clone(signature), 0),
			"zeros": make([]byte, len(signature)), "a zero before": append([]byte{0}, signature...),
		} {
			if Verify(public, text, forged) {
				t.Errorf("%s: signature %s", algorithm, name)
			}
		}
		if Verify(public, text+"x", signature) {
			t.Errorf("%s: another text", algorithm)
		}
	}
}

// TestVerifyOtherKeys: no signature is good for a key that no algorithm has.
func TestVerifyOtherKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	digest := sha256.Sum256([]byte("text"))
	r, s, err := ecdsa.Sign(rand.Reader, p384, digest[:])
	must(t, err)
	p384Signature := append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)
	for _, public := range []crypto.PublicKey{nil, p384.Public(), ed25519.PublicKey(nil), []byte("secret"), "secret"} {
		for _, signature := range [][]byte{nil, p384Signature, make([]byte, 64)} {
			if Verify(public, "text", signature) {
				t.Errorf("a key of type %T verified", public)
			}
		}
	}
	if _, err := Sign(nil, "text"); err == nil {
		t.Error("signed without a key")
	}
}

// TestES256Spelling: of the two spellings that an ECDSA signature has, one is
// taken, and none but raw r and s.
func TestES256Spelling(t *testing.T) {
	const text = "header.payload"
	private, _ := keys(t)[ES256].(*ecdsa.PrivateKey)
	digest := sha256.Sum256([]byte(text))
	for range 16 { // half of all signatures come out high
		signature := sign(t, private, text)
		if !Verify(private.Public(), text, signature) {
			t.Fatal("its own signature is refused")
		}
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		s.Sub(elliptic.P256().Params().N, s)
		if !ecdsa.Verify(&private.PublicKey, digest[:], r, s) {
			t.Fatal("the test does not make a good signature")
		}
		if Verify(private.Public(), text, append(slices.Clone(signature[:32]), s.FillBytes(make([]byte, 32))...)) {
			t.Error("the other spelling is taken")
		}
		der, err := ecdsa.SignASN1(rand.Reader, private, digest[:])
		must(t, err)
		if Verify(private.Public(), text, der) {
			t.Error("ASN.1 is taken")
		}
	}
}
