// Package policytest runs tests of a policy: a YAML file of roles, users, resources
// and cases, each of which says who asks for what and whether they may. The cases
// are judged as Authorize judges, by the policy in the file or by a running server.
package policytest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/attributes"
	"github.com/tollgatehq/tollgate/server/internal/auth/username"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"go.yaml.in/yaml/v3"
)

const (
	maxFile    = 1 << 20 // bytes
	maxCases   = 10_000
	maxOfAUser = 100 // roles
)

// File is a file that was read.
type File struct {
	Name  string
	Cases []Case

	roles     []roles.Role
	users     map[string]User
	resources map[string]map[string]any // attributes by "type/id"
	compiled  *roles.Policy             // of roles, when it was needed
}

// User is somebody who may ask.
type User struct {
	ID, Name   string
	Kind       caller.Kind
	Roles      []Assignment
	Attributes map[string]any
}

// Assignment is one role of a user.
type Assignment struct {
	Role    string
	Expires time.Time // zero: never
}

// Case is one question and its answer.
type Case struct {
	Line int
	Name string
	User string

	// Scopes are those of the API key that asks; nil: no key.
	Scopes []string

	Permission         string
	AnyOf, AllOf       []string
	Resource           string
	ResourceAttributes map[string]any
	ActionProperties   map[string]any
	Context            map[string]string
	IP                 string
	Now                time.Time // zero: when it runs

	Allow  bool
	Reason caller.Reason // empty: whichever
}

// Read reads a file. With server it is for the policy of a running server, whose users
// it does not know. What is wrong with it is all that Problems are about: the
// file is then nil. The error is that of reading.
func Read(name string, from io.Reader, server bool) (*File, []Problem, error) {
	content, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if err != nil {
		return nil, nil, err
	}
	if len(content) > maxFile {
		return nil, []Problem{{Message: fmt.Sprintf("has more than %d bytes; split it", maxFile)}}, nil
	}
	bounds, err := newBounds()
	if err != nil {
		return nil, nil, err
	}
	p := &parser{
		bounds: bounds,
		reader: reader{lines: map[string]int{}},
		file:   &File{Name: name, users: map[string]User{}, resources: map[string]map[string]any{}},
	}
	if root := p.document(content); root != nil {
		p.read(root, server)
	}
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, p.problems, nil
	}
	return p.file, nil, nil
}

// parser reads a file.
type parser struct {
	reader

	file   *File
	bounds bounds
}

func (p *parser) read(root *yaml.Node, server bool) {
	if !p.object(root, "", map[string]field{
		"roles": p.each(p.role), "users": p.each(p.user), "resources": p.each(p.resource), "tests": p.each(p.test),
	}) {
		return
	}
	switch {
	case len(p.problems) > 0: // what refers to each other is checked when each is right
		return
	case len(p.file.Cases) == 0:
		p.fail(root, "tests", "there are none; a file without any shows nothing")
	case len(p.file.Cases) > maxCases:
		p.fail(root, "tests", "there may be at most %d; split the file", maxCases)
	}
	for i, r := range p.file.roles {
		p.failWith(fmt.Sprintf("roles[%d]", i), p.bounds.role(r))
	}
	if len(p.problems) == 0 {
		roles.CheckAll(p.file.roles, roles.Declared{Permissions: contract.Permissions()}, func(at int, err error) {
			p.failWith(fmt.Sprintf("roles[%d]", at), err)
		})
	}
	p.checkUsers()
	for i, c := range p.file.Cases {
		at := fmt.Sprintf("tests[%d]", i)
		if _, known := p.file.users[c.User]; !known && !server {
			p.failAt(at+".user", fmt.Sprintf("there is no user %q in this file", c.User))
		}
		p.failWith(at, p.bounds.test(c))
	}
}

// failWith notes an error of what was read at a path; nil is none.
func (p *parser) failWith(path string, err error) {
	f := fault.From(err)
	switch {
	case f == nil:
	case len(f.Violations) == 0:
		p.failAt(path, f.Message)
	default:
		for _, v := range f.Violations {
			p.failAt(strings.Trim(path+"."+v.Field, "."), v.Message)
		}
	}
}

func (p *parser) role(n *yaml.Node, path string) {
	r := roles.Role{}
	p.object(n, path, map[string]field{
		"name": p.text(&r.Name), "description": p.text(&r.Description), "permissions": p.texts(&r.Permissions),
		"inherits": p.texts(&r.Inherits),
		"grants": p.each(func(n *yaml.Node, path string) {
			g, effect := roles.Grant{}, "allow"
			p.object(n, path, map[string]field{
				"permission": p.text(&g.Permission), "condition": p.text(&g.Condition),
				"effect": p.text(&effect), "description": p.text(&g.Description),
			})
			g.Effect = roles.Effect(strings.ToLower(strings.TrimPrefix(effect, "EFFECT_")))
			if g.Effect != roles.Allow && g.Effect != roles.Deny {
				p.failAt(path+".effect", "must be allow or deny")
			}
			r.Grants = append(r.Grants, g)
		}),
	})
	p.file.roles = append(p.file.roles, r)
}

func (p *parser) user(n *yaml.Node, path string) {
	u, kind := User{}, string(caller.Person)
	ok := p.object(n, path, map[string]field{
		"name": p.text(&u.Name), "id": p.text(&u.ID), "kind": p.text(&kind), "attributes": p.attributes(&u.Attributes),
		"roles": p.each(func(n *yaml.Node, path string) {
			var a Assignment
			if n.Kind == yaml.MappingNode {
				p.object(n, path, map[string]field{"role": p.text(&a.Role), "expires": p.time(&a.Expires)})
			} else {
				p.text(&a.Role)(n, path)
			}
			u.Roles = append(u.Roles, a)
		}),
	})
	if !ok {
		return
	}
	u.Kind = caller.Kind(kind)
	if u.Kind != caller.Person && u.Kind != caller.Service {
		p.failAt(path+".kind", "must be person or service")
	}
	name, err := username.Canonical(u.Name)
	if err != nil {
		p.failAt(path+".name", strings.TrimPrefix(fault.From(err).Message, "username: "))
		return
	}
	if u.ID == "" {
		u.ID = name
	}
	if _, twice := p.file.users[name]; twice {
		p.failAt(path+".name", fmt.Sprintf("there is a user %q already", name))
	}
	p.checkAttributes(path+".attributes", u.Attributes)
	u.Name = name
	p.file.users[name] = u
	p.lines["user "+name] = n.Line
}

// checkUsers checks the roles of users, now that all roles are known.
func (p *parser) checkUsers() {
	known := map[string]bool{}
	for _, r := range slices.Concat(roles.Builtins(), p.file.roles) {
		known[r.Name] = true
	}
	ids := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(p.file.users)) {
		u, at := p.file.users[name], "user "+name
		if ids[u.ID] {
			p.failAt(at, fmt.Sprintf("another user has the id %q", u.ID))
		}
		ids[u.ID] = true
		if len(u.Roles) > maxOfAUser {
			p.failAt(at, fmt.Sprintf("may have at most %d roles", maxOfAUser))
		}
		held := map[string]bool{}
		for _, a := range u.Roles {
			if !known[a.Role] {
				p.failAt(at, fmt.Sprintf("there is no role %q in this file, nor one that comes with Tollgate", a.Role))
			}
			if held[a.Role] {
				p.failAt(at, fmt.Sprintf("has the role %q twice", a.Role))
			}
			held[a.Role] = true
		}
	}
}

// checkAttributes checks attributes as those of users and resources are.
func (p *parser) checkAttributes(path string, values map[string]any) {
	if _, err := attributes.Encode(path, values); err != nil {
		p.failWith("", err)
	}
}

func (p *parser) resource(n *yaml.Node, path string) {
	var kind, id string
	var values map[string]any
	if !p.object(n, path, map[string]field{"type": p.text(&kind), "id": p.text(&id), "attributes": p.attributes(&values)}) {
		return
	}
	p.failWith(path, p.bounds.resource(kind, id))
	p.checkAttributes(path+".attributes", values)
	name := kind + "/" + id
	if _, twice := p.file.resources[name]; twice {
		p.failAt(path, fmt.Sprintf("there is a resource %q already", name))
	}
	p.file.resources[name] = values
}

func (p *parser) test(n *yaml.Node, path string) {
	c := Case{Line: n.Line}
	var expect, reason string
	ok := p.object(n, path, map[string]field{
		"name": p.text(&c.Name), "user": p.text(&c.User), "scopes": p.texts(&c.Scopes),
		"permission": p.text(&c.Permission), "anyOf": p.texts(&c.AnyOf), "allOf": p.texts(&c.AllOf),
		"resource": p.text(&c.Resource), "resourceAttributes": p.attributes(&c.ResourceAttributes),
		"actionProperties": p.attributes(&c.ActionProperties), "context": p.textMap(&c.Context),
		"ip": p.text(&c.IP), "now": p.time(&c.Now), "expect": p.text(&expect), "reason": p.text(&reason),
	})
	if !ok {
		return
	}
	c.Allow, c.Reason = expect == "allow", caller.Reason(strings.ToLower(strings.TrimPrefix(reason, "REASON_")))
	switch {
	case c.Name == "":
		p.failAt(path+".name", "must not be empty")
	case c.User == "":
		p.failAt(path+".user", "must not be empty")
	case expect != "allow" && expect != "deny":
		p.failAt(path+".expect", "must be allow or deny")
	case reason != "" && !known(c.Reason):
		p.failAt(path+".reason", fmt.Sprintf("%q is not a reason of a decision, such as PERMISSION_MISSING, CONDITION_FALSE or DENIED_BY_GRANT", reason))
	case reason != "" && c.Allow != (c.Reason == caller.ReasonOK):
		p.failAt(path+".reason", "OK is the reason of what is allowed, and of nothing else")
	}
	for i, scope := range c.Scopes {
		if err := perm.ValidPattern(scope); err != nil {
			p.failAt(fmt.Sprintf("%s.scopes[%d]", path, i), err.Error())
		}
	}
	if id := username.IsID(c.User); !id {
		if name, err := username.Canonical(c.User); err == nil {
			c.User = name
		}
	}
	p.file.Cases = append(p.file.Cases, c)
}
