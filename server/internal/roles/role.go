package roles

import "time"

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
	{Name: Auditor, Description: "May read the audit log, users, API keys, signing keys, roles, limits and routes.", Permissions: []string{
		"tollgate:audit:read", "tollgate:keys:read", "tollgate:limits:read", "tollgate:roles:read", "tollgate:routes:read",
		"tollgate:signing-keys:read", "tollgate:users:read",
	}},
	{Name: ServiceRole, Description: "May verify credentials and ask for decisions.", Permissions: []string{
		"tollgate:authorize", "tollgate:verify",
	}},
}

// Role is a named set of permission patterns.
type Role struct {
	Name        string
	Description string
	Permissions []string // sorted, none twice
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

// Edit is what to change of a role; nil fields stay as they are.
type Edit struct {
	Description      *string
	Permissions      []string // replaces all, when not empty
	ClearPermissions bool     // removes all; not together with Permissions
}

// Member is a user who holds a role.
type Member struct {
	Role       string
	UserID     string
	Username   string
	AssignedAt time.Time
	ExpiresAt  time.Time // zero: never
}
