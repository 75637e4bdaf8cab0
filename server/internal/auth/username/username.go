// Package username brings user names into one form and refuses those that can
// pass for another.
package username

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault"
	"golang.org/x/text/unicode/norm"
)

// maxLength is in characters of the canonical form.
const maxLength = 128

// Canonical is the form in which names are stored and compared: NFKC,
// lower case, no space around. Names that look alike only because of what
// cannot be seen are refused.
func Canonical(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", fault.Field("username", "must be UTF-8")
	}
	name = Fold(strings.TrimSpace(name))
	switch {
	case name == "":
		return "", fault.Field("username", "must not be empty")
	case utf8.RuneCountInString(name) > maxLength:
		return "", fault.Field("username", "must have at most %d characters", maxLength)
	case strings.ContainsFunc(name, unicode.IsSpace):
		return "", fault.Field("username", "must not contain spaces")
	case strings.ContainsFunc(name, invisible):
		return "", fault.Field("username", "must not contain control or invisible characters")
	case IsID(name):
		// Limits count signed-in users by id and sign-ins by name: a name
		// that is another user's id would use up what is theirs.
		return "", fault.Field("username", "must not have the form of an id")
	case Fold(name) != name:
		return "", fault.Field("username", "contains characters without one lower-case form; leave them out")
	}
	return name, nil
}

// Fold removes differences of case and of compatible forms.
func Fold(name string) string {
	return norm.NFKC.String(strings.ToLower(norm.NFKC.String(name)))
}

// invisible: controls, formatting (zero width, direction), private and
// unassigned characters, and those that fonts leave out.
func invisible(r rune) bool {
	return !unicode.IsGraphic(r) ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// IsID says whether a text has the form of an id, which no name has.
func IsID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdef", c) {
				return false
			}
		}
	}
	return true
}
