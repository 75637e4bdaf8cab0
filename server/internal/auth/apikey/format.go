package auth

import (
	"crypto/rand"
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
	// APIKeyPrefix is what every API key and no access token starts with.
	APIKeyPrefix = "tg_"

	keyIDSize       = 16
	keySecretSize   = 43 // 62^43 > 2^256
	keyChecksumSize = 6  // 62^6 > 2^32
	keySize         = len(APIKeyPrefix) + keyIDSize + 1 + keySecretSize + 1 + keyChecksumSize

	base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// newSecret returns a new the key for an id.
func newSecret(id string) string {
	body := APIKeyPrefix + id + "_" + randomBase62(keySecretSize)
	return body + "_" + keyChecksum(body)
}

// parseAPIKey returns the id of a key that is whole. It does not say that the
// key was ever issued.
func parseAPIKey(key string) (id string, ok bool) {
	if len(key) != keySize || !strings.HasPrefix(key, APIKeyPrefix) {
		return "", false
	}
	body, checksum := key[:keySize-keyChecksumSize-1], key[keySize-keyChecksumSize:]
	id, secret := body[len(APIKeyPrefix):len(APIKeyPrefix)+keyIDSize], body[len(body)-keySecretSize:]
	if key[len(APIKeyPrefix)+keyIDSize] != '_' || key[len(body)] != '_' ||
		!isBase62(id, keyIDSize) || !isBase62(secret, keySecretSize) || keyChecksum(body) != checksum {
		return "", false
	}
	return id, true
}

// keyChecksum is the CRC-32 of s in base 62.
func keyChecksum(s string) string {
	var text [keyChecksumSize]byte
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
