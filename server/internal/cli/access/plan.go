package access

import (
	"context"
	"fmt"
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Kind is a section of a file.
type Kind string

// The sections.
const (
	Roles       Kind = "roles"
	Limits      Kind = "limits"
	Routes      Kind = "routes"
	Recordings  Kind = "recordings"
	Assignments Kind = "assignments"
)

// Noun is what one of its objects is called.
func (k Kind) Noun() string { return strings.TrimSuffix(string(k), "s") }

// Object is one thing that a call creates, changes or removes.
type Object struct {
	Kind Kind
	Name string        // of an assignment: USER has ROLE
	Spec proto.Message // the request that creates it, in normal form
}

func (o Object) String() string { return o.Kind.Noun() + " " + o.Name }

// Step is a change of one object. It is created when there is nothing before it and
// removed when there is nothing after it.
type Step struct {
	Object

	Before proto.Message // as the server had it when the plan was made
	Remove bool
	Holds  int // with a role that is removed: how many users hold it
}

// Changes are the fields that a step changes.
func (s Step) Changes() []protoyaml.Change { return protoyaml.Changes(s.Before, s.Spec) }

// fixed are the fields of an object that cannot be changed.
var fixed = map[Kind][]string{Limits: {"subject", "contextKey"}}

// planner makes a plan.
type planner struct {
	server *Server
	prune  bool
	steps  []Step
	gone   []Step
}

// Plan is what must change to make a server what a file says, in the order in which it
// can be done: inherited roles first, and removals last. With prune, what the file's
// sections leave out is removed, but for what came with Tollgate; of assignments those
// of the users whom the file names.
func Plan(ctx context.Context, server *Server, file *File, prune bool) ([]Step, error) {
	p := &planner{server: server, prune: prune}
	for _, part := range []func(context.Context, *File) error{p.roles, p.limits, p.routes, p.recordings, p.assignments} {
		if err := part(ctx, file); err != nil {
			return nil, err
		}
	}
	slices.Reverse(p.gone)
	return append(p.steps, p.gone...), nil
}

// want adds the step that makes an object what it should be, if there is one.
func (p *planner) want(o Object, before proto.Message) error {
	if before == nil {
		p.steps = append(p.steps, Step{Object: o})
		return nil
	}
	step := Step{Object: o, Before: before}
	changes := step.Changes()
	for _, c := range changes {
		if slices.Contains(fixed[o.Kind], c.Field.JSONName()) {
			return fmt.Errorf("%s: %s cannot be changed; give the object another name, or remove it first", o, c.Field.JSONName())
		}
	}
	if len(changes) > 0 {
		p.steps = append(p.steps, step)
	}
	return nil
}

func (p *planner) remove(o Object, holds int) {
	p.gone = append(p.gone, Step{Object: o, Before: o.Spec, Remove: true, Holds: holds})
}

func (p *planner) roles(ctx context.Context, file *File) error {
	if !file.Owns[Roles] {
		return nil
	}
	all, err := p.server.roles(ctx)
	if err != nil {
		return err
	}
	now, builtin := map[string]*tollgatev1.CreateRoleRequest{}, map[string]bool{}
	for _, r := range all {
		spec, err := p.server.spec(ctx, r)
		if err != nil {
			return err
		}
		now[r.GetName()], builtin[r.GetName()] = spec.(*tollgatev1.CreateRoleRequest), r.GetBuiltin()
	}
	wanted := map[string]*tollgatev1.CreateRoleRequest{}
	for _, r := range file.Roles {
		if builtin[r.GetName()] {
			return fmt.Errorf("role %s came with Tollgate and cannot be changed; take it out of the file", r.GetName())
		}
		wanted[r.GetName()] = normalRole(r)
	}
	for name, r := range wanted {
		for _, other := range r.GetInherits() {
			if wanted[other] == nil && (now[other] == nil || p.prune && !builtin[other]) {
				return fmt.Errorf("role %s inherits %s, which is neither in the file nor stays at the server", name, other)
			}
		}
	}
	order, err := inheritedFirst(wanted)
	if err != nil {
		return err
	}
	for _, name := range order {
		var before proto.Message
		if now[name] != nil {
			before = now[name]
		}
		if err := p.want(Object{Roles, name, wanted[name]}, before); err != nil {
			return err
		}
	}
	if !p.prune {
		return nil
	}
	unwanted := map[string]*tollgatev1.CreateRoleRequest{}
	for name, r := range now {
		if wanted[name] == nil && !builtin[name] {
			unwanted[name] = r
		}
	}
	order, err = inheritedFirst(unwanted) // Plan reverses it
	if err != nil {
		return err
	}
	for _, name := range order {
		members, err := p.server.members(ctx, name)
		if err != nil {
			return err
		}
		p.remove(Object{Roles, name, unwanted[name]}, len(members))
	}
	return nil
}

// inheritedFirst is the names of roles in an order in which each comes after those that
// it inherits.
func inheritedFirst(all map[string]*tollgatev1.CreateRoleRequest) (order []string, err error) {
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	const open, done = 1, 2
	state := map[string]int{}
	var visit func(name string) error
	visit = func(name string) error {
		switch {
		case all[name] == nil || state[name] == done:
			return nil
		case state[name] == open:
			return fmt.Errorf("role %s inherits itself, through others", name)
		}
		state[name] = open
		for _, other := range all[name].GetInherits() {
			if err := visit(other); err != nil {
				return err
			}
		}
		state[name] = done
		order = append(order, name)
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func (p *planner) limits(ctx context.Context, file *File) error {
	return section(ctx, p, file, Limits, p.server.limits, file.Limits, func(l *tollgatev1.CreateLimitRequest) (proto.Message, error) {
		return normalLimit(ctx, l, p.server.people())
	})
}

func (p *planner) routes(ctx context.Context, file *File) error {
	return section(ctx, p, file, Routes, p.server.routes, file.Routes, func(r *tollgatev1.CreateRouteRequest) (proto.Message, error) {
		return normalRoute(r)
	})
}

func (p *planner) recordings(ctx context.Context, file *File) error {
	return section(ctx, p, file, Recordings, p.server.recordings, file.Recordings, func(r *tollgatev1.CreateRecordingRequest) (proto.Message, error) {
		return normalRecording(r), nil
	})
}

type named interface {
	proto.Message
	GetName() string
}

// section plans objects that know nothing of each other: list reads those of the server,
// and normal makes one of the file's comparable with them.
func section[Found, Wanted named](ctx context.Context, p *planner, file *File, kind Kind,
	list func(context.Context) ([]Found, error), wanted []Wanted, normal func(Wanted) (proto.Message, error),
) error {
	if !file.Owns[kind] {
		return nil
	}
	all, err := list(ctx)
	if err != nil {
		return err
	}
	now := map[string]proto.Message{}
	for _, o := range all {
		if now[o.GetName()], err = p.server.spec(ctx, o); err != nil {
			return err
		}
	}
	stays := map[string]bool{}
	for _, o := range wanted {
		stays[o.GetName()] = true
		spec, err := normal(o)
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind.Noun(), o.GetName(), err)
		}
		if err := p.want(Object{kind, o.GetName(), spec}, now[o.GetName()]); err != nil {
			return err
		}
	}
	for _, o := range all {
		builtin, is := any(o).(interface{ GetBuiltin() bool })
		if p.prune && !stays[o.GetName()] && !(is && builtin.GetBuiltin()) {
			p.remove(Object{kind, o.GetName(), now[o.GetName()]}, 0)
		}
	}
	return nil
}

func (p *planner) assignments(ctx context.Context, file *File) error {
	for _, a := range file.Assignments {
		user, err := p.server.people().find(ctx, a.User)
		if err != nil {
			return err
		}
		if user == nil {
			return fmt.Errorf("assignments: there is no user %q; create it: tollgate users create %s", a.User, a.User)
		}
		res, err := p.server.Roles.ListUserRoles(ctx, &tollgatev1.ListUserRolesRequest{UserId: user.GetId()})
		if err != nil {
			return err
		}
		now := map[string]proto.Message{}
		for _, m := range res.GetRoles() {
			now[m.GetRole()] = hold(m.GetRole(), user.GetId(), m.GetExpiresAt())
		}
		named := map[string]bool{}
		for _, h := range a.Roles {
			named[h.Role] = true
			var end *timestamppb.Timestamp
			if !h.Expires.IsZero() {
				end = timestamppb.New(h.Expires)
			}
			if err := p.want(Object{Assignments, user.GetUsername() + " has " + h.Role, hold(h.Role, user.GetId(), end)}, now[h.Role]); err != nil {
				return err
			}
		}
		for _, m := range res.GetRoles() {
			if p.prune && !named[m.GetRole()] {
				p.remove(Object{Assignments, user.GetUsername() + " has " + m.GetRole(), now[m.GetRole()]}, 0)
			}
		}
	}
	return nil
}
