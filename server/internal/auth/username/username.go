// Package auth answers "who is this": it keeps users, their passwords and
// sessions, issues tokens and API keys, and verifies what callers present.
package auth

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"golang.org/x/text/unicode/norm"
)

const (
	maxName        = 128 // characters of a user name in canonical form
	maxDisplayName = 256 // characters
)

// User is a person or a service account.
type User struct {
	ID                     string
	Username               string // unique, in canonical form
	DisplayName            string
	Kind                   caller.Kind
	Disabled               bool
	PasswordChangeRequired bool
	SecondFactor           bool // signing in takes one
	CreatedAt, UpdatedAt   time.Time
	Roles                  []string // names of the roles in force now, sorted
	Audience               string   // for a service: that of the access tokens it accepts; empty: the server's own
}

// NewUser describes a user to create.
type NewUser struct {
	Username    string
	Password    string // empty: cannot sign in; always so for a service
	DisplayName string
	Kind        caller.Kind // empty: a person
	Roles       []string    // names of the roles to begin with, for good
	Audience    string      // for a service only: see User

	PasswordChangeRequired bool // until they change it, the password is good for nothing else
}

// UserUpdate holds what to change of a user; nil leaves a field as it is.
type UserUpdate struct {
	Username    *string
	DisplayName *string
	Disabled    *bool
	Audience    *string // for a service only: see User
}

// identity is what verifying needs to know about a user. The zero identity
// stands for a user who does not exist.
type identity struct {
	Username               string
	Kind                   caller.Kind
	Disabled               bool
	PasswordChangeRequired bool
	Audience               string
}

// canonicalName is the form in which names are stored and compared: NFKC,
// lower case, no space around. Names that look alike only because of what
// cannot be seen are refused.
func canonicalName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", fault.Field("username", "must be UTF-8")
	}
	name = fold(strings.TrimSpace(name))
	switch {
	case name == "":
		return "", fault.Field("username", "must not be empty")
	case utf8.RuneCountInString(name) > maxName:
		return "", fault.Field("username", "must have at most %d characters", maxName)
	case strings.ContainsFunc(name, unicode.IsSpace):
		return "", fault.Field("username", "must not contain spaces")
	case strings.ContainsFunc(name, invisible):
		return "", fault.Field("username", "must not contain control or invisible characters")
	case isUUID(name):
		// Limits count signed-in users by id and sign-ins by name: a name
		// that is another user's id would use up what is theirs.
		return "", fault.Field("username", "must not have the form of an id")
	case fold(name) != name:
		return "", fault.Field("username", "contains characters without one lower-case form; leave them out")
	}
	return name, nil
}

func fold(name string) string {
	return norm.NFKC.String(strings.ToLower(norm.NFKC.String(name)))
}

// invisible: controls, formatting (zero width, direction), private and
// unassigned characters, and those that fonts leave out.
func invisible(r rune) bool {
	return !unicode.IsGraphic(r) ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

func isUUID(s string) bool {
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

func checkDisplayName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return fault.Field("displayName", "must be UTF-8")
	case utf8.RuneCountInString(name) > maxDisplayName:
		return fault.Field("displayName", "must have at most %d characters", maxDisplayName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fault.Field("displayName", "must not contain control characters")
	}
	return nil
}

func userUnknown() error {
	return fault.New(fault.NotFound, "USER_NOT_FOUND", "there is no user with this id; list the users to find it")
}

func userExists(name string) error {
	return fault.New(fault.Exists, "USER_EXISTS", "the user name %q is taken; choose another", name)
}
