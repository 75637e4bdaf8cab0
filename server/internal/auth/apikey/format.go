package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"strings"
)

// An API key is "tg_<id>_<secret>_<checksum>", in letters and digits:
//
//	tg_[0-9A-Za-z]{16}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}
//
// is the expression for secret scanners. The id is public and names the key;
// the secret has 256 bits; the checksum is the CRC-32 (IEEE) of everything
// before the last underscore, in base 62, so that a key with a typo is refused
// without a look into the database and scanners find no false keys.
const (
	// Prefix is what every API key and no access token starts with.
	Prefix = "tg_"

	idSize       = 16
	secretSize   = 43 // 62^43 > 2^256
	checksumSize = 6  // 62^6 > 2^32
	keySize      = len(Prefix) + idSize + 1 + secretSize + 1 + checksumSize

	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newSecret makes the key for an id, and the hash to store of it, which needs no
// salt and no stretching: a key has 256 random bits.
func newSecret(id string) (secret string, hash []byte) {
	body := Prefix + id + "_" + randomBase62(secretSize)
	secret = body + "_" + checksum(body)
	sum := sha256.Sum256([]byte(secret))
	return secret, sum[:]
}

// parse returns the id of a key that is whole. It does not say that the
// key was ever issued.
func parse(key string) (id string, ok bool) {
	if len(key) != keySize || !strings.HasPrefix(key, Prefix) {
		return "", false
	}
	body, sum := key[:keySize-checksumSize-1], key[keySize-checksumSize:]
	id, secret := body[len(Prefix):len(Prefix)+idSize], body[len(body)-secretSize:]
	if key[len(Prefix)+idSize] != '_' || key[len(body)] != '_' ||
		!isBase62(id, idSize) || !isBase62(secret, secretSize) || checksum(body) != sum {
		return "", false
	}
	return id, true
}

// checksum is the CRC-32 of s in base 62.
func checksum(s string) string {
	var text [checksumSize]byte
	sum := crc32.ChecksumIEEE([]byte(s))
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = base62[sum%62]
		sum /= 62
	}
	return string(text[:])
}

// randomBase62 returns n random letters and digits, all equally likely.
func randomBase62(n int) string {
	text, random := make([]byte, 0, n), make([]byte, n)
	for len(text) < n {
		rand.Read(random)
		for _, b := range random {
			if b < 4*62 && len(text) < n { // the rest would favor the first letters
				text = append(text, base62[b%62])
			}
		}
	}
	return string(text)
}

func isBase62(s string, size int) bool {
	if len(s) != size {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
