// Package totp makes and checks the codes of a second factor: an
// authenticator's one-time codes and recovery codes.
package totp

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

// The TOTP that every authenticator knows: RFC 6238 with its defaults, HMAC
// with SHA-1, which is not weakened by collisions.
const (
	keySize = 20 // bytes, the 160 bits that RFC 4226 §4 recommends
	period  = 30 // seconds a code is good for
	digits  = otp.DigitsSix
	skew    = 1 // codes before and after the present one are good, too (RFC 6238 §5.2)

	recoveryCodes  = 10
	recoverySize   = 10                   // random bytes each
	recoveryLength = recoverySize * 8 / 5 // characters without dashes
	recoveryGroup  = 4                    // characters between two dashes
)

// crockford has no letters that are mixed up with digits or each other.
var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// Issuer is what authenticators show beside the user's name.
type Issuer string

// NewIssuer is the host of the tokens' issuer: authenticators separate the
// issuer from the user by a colon.
func NewIssuer(issuer string) Issuer {
	if u, err := url.Parse(issuer); err == nil && u.Hostname() != "" {
		issuer = u.Hostname()
	}
	return Issuer(strings.ReplaceAll(issuer, ":", " "))
}

// Enrollment is a new second factor: what the authenticator and its owner need.
type Enrollment struct {
	Key           []byte // what codes are computed from
	Secret        string // the key in base32, for typing
	URI           string // otpauth://, for the QR code
	RecoveryCodes []string
}

// Enroll makes a second factor for a user.
func (i Issuer) Enroll(username string) (Enrollment, error) {
	secret := make([]byte, keySize)
	rand.Read(secret)
	key, err := totp.Generate(totp.GenerateOpts{
		Issuer: string(i), AccountName: username, Secret: secret,
		Period: period, Digits: digits, Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return Enrollment{}, fmt.Errorf("describe a second factor: %w", err)
	}
	made := Enrollment{Key: secret, Secret: key.Secret(), URI: key.URL()}
	for range recoveryCodes {
		made.RecoveryCodes = append(made.RecoveryCodes, newRecoveryCode())
	}
	return made, nil
}

func newRecoveryCode() string {
	random := make([]byte, recoverySize)
	rand.Read(random)
	var code strings.Builder
	for i, c := range crockford.EncodeToString(random) {
		if i > 0 && i%recoveryGroup == 0 {
			code.WriteByte('-')
		}
		code.WriteRune(c)
	}
	return code.String()
}

// Steps returns the time steps around now whose code this is. It is the
// caller's to take each step only once.
func Steps(key []byte, code string, now time.Time) (steps []int64, err error) {
	secret, at := base32.StdEncoding.EncodeToString(key), now.Unix()/period
	for step := at - skew; step <= at+skew; step++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(step), hotp.ValidateOpts{Digits: digits, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return nil, fmt.Errorf("compute a code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			steps = append(steps, step)
		}
	}
	return steps, nil
}

// Plain is a code as it was made, however a person has typed it.
func Plain(code string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '\t', '\n', '\r':
			return -1
		case 'o', 'O':
			return '0'
		case 'i', 'I', 'l', 'L':
			return '1'
		}
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return r
	}, code)
}

// IsRecoveryCode says whether a plain code has the form of a recovery code.
func IsRecoveryCode(plain string) bool { return len(plain) == recoveryLength }

// HashRecoveryCode is what is stored of a recovery code, in plain form. It needs
// no salt and no stretching: a code has 80 random bits.
func HashRecoveryCode(plain string) []byte {
	sum := sha256.Sum256([]byte("tollgate recovery code\x00" + plain))
	return sum[:]
}
