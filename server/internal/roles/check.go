package roles

import (
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// checkNew is what is wrong with a role that is to be created, but for what depends
// on other roles and on the caller.
func (s *Service) checkNew(r Role) error {
	if !ValidName(r.Name) {
		return fault.Field("name", `must be a lower-case letter, then letters, digits, "-", "_" or ".", at most 64 in all`)
	}
	if strings.HasPrefix(r.Name, reservedPrefix) {
		return fault.Field("name", "must not start with %q, which is for Tollgate's own roles; choose another", reservedPrefix)
	}
	if err := validDescription(r.Description); err != nil {
		return err
	}
	if err := s.checkPatterns(r.Permissions, nil); err != nil {
		return err
	}
	return s.checkGrants(r.Grants, nil)
}

// Builtins are the roles that come with Tollgate.
func Builtins() []Role { return slices.Clone(builtins[:]) }

// CheckAll is what is wrong with roles that would be all there are besides the
// built-in ones, one error for each that Create would refuse whoever calls it. at is
// the place of the error's role in the list.
func CheckAll(list []Role, declared Declared, report func(at int, err error)) {
	s := &Service{declared: declared}
	names := map[string]bool{}
	for _, r := range builtins {
		names[r.Name] = true
	}
	inherits := map[string][]string{}
	for i, r := range list {
		if names[r.Name] {
			report(i, fault.Field("name", "a role %q exists already; choose another name", r.Name))
			continue
		}
		names[r.Name], inherits[r.Name] = true, r.Inherits
		if err := s.checkNew(r); err != nil {
			report(i, err)
		}
	}
	if len(list) > maxRoles {
		report(maxRoles, fault.Field("name", "there may be at most %d roles", maxRoles))
	}
	for i, r := range list {
		if err := checkInherits(r, inherits, names); err != nil {
			report(i, err)
		}
	}
}

// checkInherits checks what a role inherits where all names and inheritances are
// known.
func checkInherits(r Role, inherits map[string][]string, names map[string]bool) error {
	if len(r.Inherits) > maxInherits {
		return fault.Field("inherits", "must be at most %d", maxInherits)
	}
	for _, name := range r.Inherits {
		switch {
		case name == r.Name:
			return circle(r.Name)
		case !names[name]:
			return roleError("inherit", name, database.ErrNoRows)
		}
	}
	return checkDepth(r.Name, inherits)
}
