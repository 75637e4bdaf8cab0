package password

import (
	"crypto/rand"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/trustelem/zxcvbn/frequency"

	"github.com/tollgatehq/tollgate/server/internal/auth/username"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

const (
	minLength = 8  // characters
	maxLength = 72 // bytes; bcrypt ignores what follows
)

// Check refuses a new password that is too short or too long, the name
// of its user, or one of the 30,000 most common ones in any case, the first
// that are tried. There are no rules about kinds of characters: they make
// passwords worse (NIST SP 800-63B §3.1.1).
func Check(field, name, password string) error {
	switch {
	case utf8.RuneCountInString(password) < minLength:
		return fault.Field(field, "must have at least %d characters", minLength)
	case len(password) > maxLength:
		return fault.Field(field, "must have at most %d bytes; letters beyond ASCII have several", maxLength)
	case holdsNUL(password):
		return fault.Field(field, "must not contain the character NUL (U+0000)")
	case username.Fold(strings.TrimSpace(password)) == name:
		return fault.Field(field, "must not be the user name; choose another")
	case common(password):
		return fault.Field(field, "is one of the most common passwords, which are tried first; choose another")
	}
	return nil
}

// holdsNUL: bcrypt fills its key by repeating the password and a NUL, so P and
// P, NUL, P have one hash. Passwords with a NUL are neither set nor right.
func holdsNUL(password string) bool { return strings.IndexByte(password, 0) >= 0 }

// common looks through the list, which lies in the program's file: that takes
// no memory and, beside bcrypt, no time.
func common(password string) bool {
	return slices.Contains(frequency.FrequencyLists["passwords"], strings.ToLower(password))
}

// NewOneTime makes a password of 100 random bits, in characters that are hard to mix
// up (Crockford's base32).
func NewOneTime() string {
	const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	text := make([]byte, 20)
	rand.Read(text)
	for i, b := range text {
		text[i] = alphabet[b&31]
	}
	return string(text)
}
