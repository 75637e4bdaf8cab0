// Package roles answers "may they": roles bundle permission patterns, users
// hold roles, and a compiled snapshot of all roles in memory decides without
// asking the database.
package roles

import (
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// The built-in roles.
const (
	Administrator = "administrator" // may do everything
	Auditor       = "auditor"       // may read Tollgate's state and the audit log
	ServiceRole   = "service"       // may ask for decisions: what a service behind Tollgate holds
)

// reservedPrefix is for the names of Tollgate's roles: EnsureBuiltins would turn a
// role of the same name into the built-in role of a later version.
const reservedPrefix = "tollgate"

const (
	maxRoles    = 10_000 // all are compiled in memory
	maxOfAUser  = 100    // live roles of one user
	cachedUsers = 50_000 // users whose roles are kept in memory
	reloadAll   = 50     // changed roles from which on one read of all costs less
)

// builtins in the order of their names, in which every instance writes them.
var builtins = [...]Role{
	{Name: Administrator, Description: "May do everything.", Permissions: []string{"*"}},
	{Name: Auditor, Description: "May read the audit log, users, API keys, signing keys, roles, limits, routes and resources.", Permissions: []string{
		"tollgate:audit:read", "tollgate:keys:read", "tollgate:limits:read", "tollgate:resources:read", "tollgate:roles:read",
		"tollgate:routes:read", "tollgate:signing-keys:read", "tollgate:users:read",
	}},
	{Name: ServiceRole, Description: "May verify credentials and ask for decisions.", Permissions: []string{
		"tollgate:authorize", "tollgate:verify",
	}},
}

// Effect is what a grant does where its condition is true.
type Effect string

// The effects, as stored.
const (
	Allow Effect = "allow"
	Deny  Effect = "deny" // wins over every allow
)

// Grant allows or denies calls, maybe only where a condition is true.
type Grant struct {
	Permission  string `json:"permission"`          // pattern
	Condition   string `json:"condition,omitempty"` // in CEL; empty: always
	Effect      Effect `json:"effect"`
	Description string `json:"description,omitempty"`
}

// Role is a named set of permissions and grants.
type Role struct {
	Name        string
	Description string
	Permissions []string // patterns that it allows without a condition; sorted, none twice
	Grants      []Grant  // what it allows or denies besides
	Inherits    []string // roles whose permissions and grants it has as well; sorted, none twice
	Builtin     bool     // cannot be changed or removed
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// ValidName says whether a role, or a limit, can have the name. What is not one,
// such as text with a NUL, need not reach the database.
func ValidName(name string) bool {
	if name == "" || len(name) > 64 || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// Edit is what to change of a role; nil fields stay as they are. Each list replaces
// all, when not empty, and each Clear removes all; not both.
type Edit struct {
	Description      *string
	Permissions      []string
	ClearPermissions bool
	Grants           []Grant
	ClearGrants      bool
	Inherits         []string
	ClearInherits    bool
}

func (e Edit) check() error {
	switch {
	case e.ClearPermissions && len(e.Permissions) > 0:
		return fault.Field("clearPermissions", "cannot be combined with permissions; give one of them")
	case e.ClearGrants && len(e.Grants) > 0:
		return fault.Field("clearGrants", "cannot be combined with grants; give one of them")
	case e.ClearInherits && len(e.Inherits) > 0:
		return fault.Field("clearInherits", "cannot be combined with inherits; give one of them")
	case e.Description == nil && len(e.Permissions)+len(e.Grants)+len(e.Inherits) == 0 && !e.ClearPermissions && !e.ClearGrants && !e.ClearInherits:
		return fault.NothingToUpdate()
	case e.Description != nil:
		return validDescription(*e.Description)
	}
	return nil
}

func (e Edit) apply(r Role) Role {
	if e.Description != nil {
		r.Description = *e.Description
	}
	if len(e.Permissions) > 0 || e.ClearPermissions {
		r.Permissions = perm.Tidy(e.Permissions)
	}
	if len(e.Grants) > 0 || e.ClearGrants {
		r.Grants = e.Grants
	}
	if len(e.Inherits) > 0 || e.ClearInherits {
		r.Inherits = perm.Tidy(e.Inherits)
	}
	return r
}

// Member is a user who holds a role.
type Member struct {
	Role       string
	UserID     string
	Username   string
	AssignedAt time.Time
	ExpiresAt  time.Time // zero: never
}
