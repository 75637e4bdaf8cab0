package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
)

type roles struct {
	List    rolesList    `cmd:"" help:"List roles."`
	Get     rolesGet     `cmd:"" help:"Show a role: what it allows, denies and inherits."`
	Create  rolesCreate  `cmd:"" help:"Create a role. For grants with conditions, edit it then."`
	Edit    rolesEdit    `cmd:"" help:"Change a role: by flags, or in an editor when none is given. Says first whom it gives and takes what."`
	Delete  rolesDelete  `cmd:"" help:"Remove a role, and take it from everybody who holds it."`
	Members rolesMembers `cmd:"" help:"List the users who hold a role."`
	Assign  rolesAssign  `cmd:"" help:"Give a role to a user, for good or for a time."`
	Revoke  rolesRevoke  `cmd:"" help:"Take a role from a user."`
}

type rolesList struct{ limited }

func (r rolesList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := paging.All(r.Limit, func(size int32, token string) (*tollgatev1.ListRolesResponse, error) {
		return server.roles.ListRoles(ctx, &tollgatev1.ListRolesRequest{PageSize: size, PageToken: token})
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"NAME", "PERMISSIONS", "GRANTS", "INHERITS", "BUILT IN", "DESCRIPTION"}
		for _, r := range res.GetRoles() {
			t.row(r.GetName(), list(r.GetPermissions()), fmt.Sprint(len(r.GetGrants())), list(r.GetInherits()), yes(r.GetBuiltin()), r.GetDescription())
		}
	})
}

type oneRole struct {
	Name string `arg:"" help:"The role's name."`
}

type rolesGet struct{ oneRole }

func (r rolesGet) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.roles.GetRole(ctx, &tollgatev1.GetRoleRequest{Name: r.Name})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		role := res.GetRole()
		t.row("name", role.GetName())
		t.row("description", role.GetDescription())
		t.row("built in", yes(role.GetBuiltin()))
		t.row("inherits", list(role.GetInherits()))
		for _, p := range role.GetPermissions() {
			t.row("allow", p)
		}
		for _, g := range role.GetGrants() {
			what := g.GetPermission()
			if g.GetCondition() != "" {
				what += " if " + g.GetCondition()
			}
			t.row(effect(g), what)
		}
		t.row("created", when(role.GetCreatedAt()))
		t.row("changed", when(role.GetUpdatedAt()))
	})
}

type rolesCreate struct {
	oneRole

	Description string   `help:"What it is for." placeholder:"TEXT"`
	Permission  []string `help:"What it allows: orders:read, orders:*. Repeat the flag for more." placeholder:"PERMISSION"`
	Inherit     []string `help:"A role whose permissions and grants it has as well. Repeat the flag for more." placeholder:"ROLE"`
}

func (r rolesCreate) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.roles.CreateRole(ctx, &tollgatev1.CreateRoleRequest{
		Name: r.Name, Description: r.Description, Permissions: r.Permission, Inherits: r.Inherit,
	})
	if err != nil {
		return err
	}
	e.say("created role %s", r.Name)
	return e.asked(res)
}

type rolesEdit struct {
	oneRole

	Description *string  `help:"What it is for." placeholder:"TEXT"`
	Add         []string `help:"Allow this, too. Repeat the flag for more." placeholder:"PERMISSION"`
	Remove      []string `help:"Allow this no more. Repeat the flag for more." placeholder:"PERMISSION"`
	Inherit     []string `help:"Inherit these roles, and no others. Repeat the flag for more." placeholder:"ROLE"`
	NoInherit   bool     `help:"Inherit no role."`
	confirmed
}

func (r rolesEdit) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	got, err := server.roles.GetRole(ctx, &tollgatev1.GetRoleRequest{Name: r.Name})
	if err != nil {
		return err
	}
	update := &tollgatev1.UpdateRoleRequest{Name: r.Name, Description: r.Description, Inherits: r.Inherit, ClearInherits: r.NoInherit}
	switch {
	case len(r.Add)+len(r.Remove) > 0:
		kept := slices.DeleteFunc(slices.Concat(got.GetRole().GetPermissions(), r.Add), func(p string) bool { return slices.Contains(r.Remove, p) })
		update.Permissions, update.ClearPermissions = kept, len(kept) == 0
	case r.Description == nil && len(r.Inherit) == 0 && !r.NoInherit:
		if err := e.editFields(ctx, "The role "+r.Name, got.GetRole(), &tollgatev1.CreateRoleRequest{}, update, "name"); err != nil {
			return err
		}
	}
	if !r.Yes {
		what, err := server.consequences(ctx, update)
		if err != nil {
			return err
		}
		if what != "" {
			if err := r.confirm(ctx, e, "change the role %s, by which %s", r.Name, what); err != nil {
				return err
			}
		}
	}
	res, err := server.roles.UpdateRole(ctx, update)
	if err != nil {
		return err
	}
	e.say("changed role %s", r.Name)
	return e.asked(res)
}

// replayed is how many recorded decisions are made again before a role is changed.
const replayed = 1000

// consequences says how many users an update of a role gives or takes something, and
// whom, and who would be refused what they were allowed lately, where that is on record;
// empty when nobody.
func (a *api) consequences(ctx context.Context, update *tollgatev1.UpdateRoleRequest) (string, error) {
	preview, err := paging.All(0, func(size int32, token string) (*tollgatev1.PreviewRoleResponse, error) {
		req := &tollgatev1.PreviewRoleRequest{Update: update, PageSize: size, PageToken: token}
		if token == "" {
			req.Replay = replayed
		}
		return a.roles.PreviewRole(ctx, req)
	})
	if err != nil {
		return "", err
	}
	missed := map[string]bool{}
	for _, r := range preview.GetReplayed() {
		missed[r.GetUserId()] = missed[r.GetUserId()] || r.GetBefore() == tollgatev1.Reason_REASON_OK
	}
	var gain, lose, miss []string
	for _, c := range preview.GetChanges() {
		if missed[c.GetUserId()] {
			miss = append(miss, c.GetUsername())
		}
		if len(c.GetGains()) > 0 {
			gain = append(gain, c.GetUsername())
		}
		if len(c.GetLosses()) > 0 {
			lose = append(lose, c.GetUsername())
		}
	}
	var parts []string
	for _, p := range []struct {
		who  []string
		what string
	}{{gain, "may more"}, {lose, "may less"}, {miss, "would be refused what is on record as allowed"}} {
		if n := len(p.who); n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s (%s)", count(n, "user"), p.what, some(p.who)))
		}
	}
	return strings.Join(parts, ", and "), nil
}

// some is the first few of a list.
func some(names []string) string {
	const few = 5
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

type rolesDelete struct {
	oneRole
	confirmed
}

func (r rolesDelete) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	members, err := server.members(ctx, r.Name, 0)
	if err != nil {
		return err
	}
	var who []string
	for _, m := range members.GetMembers() {
		who = append(who, m.GetUsername())
	}
	whom := "which nobody holds"
	if len(who) > 0 {
		whom = fmt.Sprintf("and take it from %s (%s)", count(len(who), "user"), some(who))
	}
	if err := r.confirm(ctx, e, "remove the role %s, %s", r.Name, whom); err != nil {
		return err
	}
	res, err := server.roles.DeleteRole(ctx, &tollgatev1.DeleteRoleRequest{Name: r.Name})
	if err != nil {
		return err
	}
	e.say("removed role %s", r.Name)
	return e.asked(res)
}

func (a *api) members(ctx context.Context, role string, limit int) (*tollgatev1.ListRoleMembersResponse, error) {
	return paging.All(limit, func(size int32, token string) (*tollgatev1.ListRoleMembersResponse, error) {
		return a.roles.ListRoleMembers(ctx, &tollgatev1.ListRoleMembersRequest{Role: role, PageSize: size, PageToken: token})
	})
}

type rolesMembers struct {
	oneRole
	limited
}

func (r rolesMembers) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.members(ctx, r.Name, r.Limit)
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"USERNAME", "SINCE", "UNTIL", "USER ID"}
		for _, m := range res.GetMembers() {
			t.row(m.GetUsername(), when(m.GetAssignedAt()), when(m.GetExpiresAt()), m.GetUserId())
		}
	})
}

type rolesAssign struct {
	Role string `arg:"" help:"The role's name."`
	User string `arg:"" help:"The user's name or id."`
	For  string `help:"How long: 8h, 30d. Default: for good." placeholder:"TIME"`
}

func (r rolesAssign) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, r.User)
	if err != nil {
		return err
	}
	end, err := until(e.now(), r.For)
	if err != nil {
		return err
	}
	res, err := server.roles.AssignRole(ctx, &tollgatev1.AssignRoleRequest{Role: r.Role, UserId: user.GetId(), ExpiresAt: end})
	if err != nil {
		return err
	}
	if end == nil {
		e.say("%s holds the role %s", res.GetMember().GetUsername(), r.Role)
	} else {
		e.say("%s holds the role %s until %s", res.GetMember().GetUsername(), r.Role, when(end))
	}
	return e.asked(res)
}

type rolesRevoke struct {
	Role string `arg:"" help:"The role's name."`
	User string `arg:"" help:"The user's name or id."`
}

func (r rolesRevoke) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, r.User)
	if err != nil {
		return err
	}
	res, err := server.roles.UnassignRole(ctx, &tollgatev1.UnassignRoleRequest{Role: r.Role, UserId: user.GetId()})
	if err != nil {
		return err
	}
	e.say("%s holds the role %s no more", r.User, r.Role)
	return e.asked(res)
}
