package main

import (
	"fmt"
	"slices"
	"strings"
)

// recovery is the commands for operators with access to the database.
type recovery struct {
	User     user     `cmd:"" help:"List and create users, and reset passwords when no administrator can sign in."`
	AuditLog auditLog `cmd:"" help:"Give the audit log a new key, or a new tree."`
	Limits   limits   `cmd:"" help:"List the limits, and remove or reset one that locks users out."`
}

func (recovery) Help() string {
	return `These commands need the database (--database-url) and no password. Servers may keep running. The audit log has what they do with the actor "system". With an administrator who can sign in, use the client's commands instead: tollgate login, then tollgate users, roles, keys and limits.`
}

// oldNames are commands on the database that were spelled otherwise before the client's
// commands took their names.
var oldNames = map[string]string{
	"user": "recover user", "keys remove": "signing-keys remove", "keys rewrap": "signing-keys rewrap",
	"limits restore": "recover limits restore",
}

// moved is an error that says how an old spelling is spelled now. first is the first
// word of the arguments.
func moved(args []string, first string) error {
	words := slices.DeleteFunc(slices.Clone(args[max(slices.Index(args, first), 0):]), func(arg string) bool { return strings.HasPrefix(arg, "-") })
	for n := min(2, len(words)); n > 0; n-- {
		old := strings.Join(words[:n], " ")
		if now, ok := oldNames[old]; ok {
			return fmt.Errorf("%q is now: tollgate %s", "tollgate "+old, now)
		}
	}
	return nil
}
