package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/auth/username"
)

// The exit statuses of can, besides 0.
const (
	exitNo      = 1
	exitUnasked = 2
)

type can struct {
	User       string            `arg:"" help:"The user's name or id."`
	Permission string            `arg:"" help:"What they want to do: orders:read."`
	Resource   string            `arg:"" optional:"" help:"What it is about, for conditions: orders/7."`
	Context    map[string]string `help:"A fact that conditions read and custom limits count by. Repeat the flag for more." mapsep:"none" placeholder:"KEY=VALUE"`
	IP         string            `name:"ip" help:"The address that they call from." placeholder:"ADDRESS"`
	All        bool              `help:"Show also the grants that are about other calls."`
}

func (can) Help() string {
	return `Asks the server to explain the decision; it counts against no limit. It takes the permissions tollgate:explain and, for a user's name, tollgate:users:read.

    tollgate can mia orders:write orders/7 --context tenant=acme --ip 192.0.2.7
    tollgate can mia orders:write && echo she may`
}

func (c can) Run(ctx context.Context, e *env) error {
	allowed, err := c.ask(ctx, e)
	switch {
	case err != nil:
		return exit{err, exitUnasked}
	case !allowed:
		return exit{nil, exitNo}
	}
	return nil
}

func (c can) ask(ctx context.Context, e *env) (bool, error) {
	server, err := e.connect()
	if err != nil {
		return false, err
	}
	user, err := server.user(ctx, c.User)
	if err != nil {
		return false, err
	}
	req := &tollgatev1.AuthorizeRequest{
		Credential: &tollgatev1.AuthorizeRequest_UserId{UserId: user.GetId()},
		Permission: c.Permission, Resource: c.Resource, Context: c.Context,
	}
	if c.IP != "" {
		req.Client = &tollgatev1.Client{Ip: c.IP}
	}
	res, err := server.roles.Explain(ctx, &tollgatev1.ExplainRequest{Request: req})
	if err != nil {
		return false, err
	}
	return res.GetAllowed(), e.show(res, func(t *table) { c.table(t, user, res) })
}

// table shows the answer, then the grants and limits that it came from.
func (c can) table(t *table, user *tollgatev1.User, res *tollgatev1.ExplainResponse) {
	what := c.Permission
	if c.Resource != "" {
		what += " on " + c.Resource
	}
	who := cmp.Or(res.GetPrincipal().GetUsername(), user.GetUsername(), c.User)
	if res.GetAllowed() {
		t.before("yes: %s may %s", who, what)
	} else {
		t.before("no: %s may not %s: %s", who, what, because(res.GetReason()))
	}
	t.before("roles: %s", cell(list(res.GetPrincipal().GetRoles())))
	for _, g := range res.GetGrants() {
		if g.GetVerdict() == tollgatev1.Verdict_VERDICT_NO_MATCH && !c.All {
			continue
		}
		if len(t.header) == 0 {
			t.header = []string{"VERDICT", "ROLE", "GRANT", "CONDITION", "READ"}
		}
		role := g.GetRole()
		if g.GetFrom() != role {
			role += " > " + g.GetFrom()
		}
		read := make([]string, 0, len(g.GetRead()))
		for _, key := range slices.Sorted(maps.Keys(g.GetRead())) {
			read = append(read, key+" = "+g.GetRead()[key])
		}
		if g.GetDetail() != "" {
			read = append(read, g.GetDetail())
		}
		t.row(name(g.GetVerdict(), "VERDICT_"), role, effect(&tollgatev1.Grant{Effect: g.GetEffect()})+" "+g.GetPermission(), g.GetCondition(), strings.Join(read, "; "))
	}
	if len(res.GetGrants()) == 0 {
		t.note("no role grants anything")
	} else if len(t.rows) == 0 {
		t.note("none of %d grants is about this; --all shows them", len(res.GetGrants()))
	}
	for _, l := range res.GetLimits() {
		state := ""
		if l.GetExceeded() {
			state = ": exceeded"
		}
		if l.GetShadow() {
			state += " (shadow)"
		}
		t.note("limit %s: %d of %d left%s", l.GetName(), l.GetRemaining(), l.GetLimit(), state)
	}
}

// because is a reason in words.
func because(reason tollgatev1.Reason) string {
	words := map[tollgatev1.Reason]string{
		tollgatev1.Reason_REASON_PERMISSION_MISSING: "no role of theirs grants it",
		tollgatev1.Reason_REASON_CONDITION_FALSE:    "it is granted only under a condition that is not true here",
		tollgatev1.Reason_REASON_CONDITION_FAILED:   "a condition cannot be decided with what it was given",
		tollgatev1.Reason_REASON_DENIED_BY_GRANT:    "a role of theirs denies it",
		tollgatev1.Reason_REASON_USER_DISABLED:      "the user is disabled",
		tollgatev1.Reason_REASON_USER_UNKNOWN:       "there is no such user",
		tollgatev1.Reason_REASON_LIMITED:            "a limit is used up",
	}
	short := strings.TrimPrefix(reason.String(), "REASON_")
	if words[reason] == "" {
		return short
	}
	return words[reason] + " (" + short + ")"
}

// user is a user by name or id. The name of one given by id is empty for a caller who
// may not read users.
func (a *api) user(ctx context.Context, nameOrID string) (*tollgatev1.User, error) {
	if username.IsID(nameOrID) {
		return &tollgatev1.User{Id: nameOrID}, nil
	}
	res, err := a.auth.ListUsers(ctx, &tollgatev1.ListUsersRequest{Username: nameOrID, PageSize: 1})
	switch {
	case err != nil:
		return nil, err
	case len(res.GetUsers()) == 0:
		return nil, fmt.Errorf("there is no user %q at %s; tollgate users list shows them", nameOrID, a.url)
	}
	return res.GetUsers()[0], nil
}
