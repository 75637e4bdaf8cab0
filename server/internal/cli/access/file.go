// Package access is configuration as code: roles, limits, routes, recordings and who
// holds which role as a YAML file, what would change to make a server the same, and the changes.
package access

import (
	"fmt"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

// MaxFile bounds a file, in bytes.
const MaxFile = 8 << 20

// File is what files say. A section that no file has is not owned: nothing of its kind
// is removed.
type File struct {
	Roles       []*tollgatev1.CreateRoleRequest
	Limits      []*tollgatev1.CreateLimitRequest
	Routes      []*tollgatev1.CreateRouteRequest
	Recordings  []*tollgatev1.CreateRecordingRequest
	Assignments []Assignment

	Owns map[Kind]bool
}

// Assignment is the roles of a user.
type Assignment struct {
	User  string
	Roles []Hold
}

// Hold is a role that a user holds.
type Hold struct {
	Role    string
	Expires time.Time // zero: never
}

// Reader reads files into one.
type Reader struct {
	file  File
	names map[string]string // where each object was read, by kind and name
}

// NewReader is a reader that has read nothing.
func NewReader() *Reader {
	return &Reader{file: File{Owns: map[Kind]bool{}}, names: map[string]string{}}
}

// File is what was read.
func (r *Reader) File() *File { return &r.file }

// Read reads a file. The error has a line for each thing that is wrong.
func (r *Reader) Read(name string, text []byte) error {
	if len(text) > MaxFile {
		return fmt.Errorf("%s has more than %d bytes; split it", name, MaxFile)
	}
	p := &parser{file: &r.file, names: r.names, name: name}
	if root := p.Document(text); root != nil {
		p.read(root)
	}
	return p.Err(name)
}

type parser struct {
	protoyaml.Reader

	file  *File
	names map[string]string
	name  string
}

func (p *parser) read(root *yaml.Node) {
	p.Object(root, "", func(key, value *yaml.Node, path string) {
		kind := Kind(key.Value)
		switch kind {
		case Roles:
			p.List(value, path, func(n *yaml.Node, at string) {
				m := &tollgatev1.CreateRoleRequest{}
				if p.object(n, at, kind, m, &m.Name) {
					p.conditions(at, m)
					p.file.Roles = append(p.file.Roles, m)
				}
			})
		case Limits:
			p.List(value, path, func(n *yaml.Node, at string) {
				m := &tollgatev1.CreateLimitRequest{}
				if p.object(n, at, kind, m, &m.Name) {
					p.file.Limits = append(p.file.Limits, m)
				}
			})
		case Routes:
			p.List(value, path, func(n *yaml.Node, at string) {
				m := &tollgatev1.CreateRouteRequest{}
				if p.object(n, at, kind, m, &m.Name) {
					p.file.Routes = append(p.file.Routes, m)
				}
			})
		case Recordings:
			p.List(value, path, func(n *yaml.Node, at string) {
				m := &tollgatev1.CreateRecordingRequest{}
				if p.object(n, at, kind, m, &m.Name) {
					p.file.Recordings = append(p.file.Recordings, m)
				}
			})
		case Assignments:
			p.List(value, path, p.assignment)
		default:
			p.Fail(key, path, "is not known; known are assignments, limits, recordings, roles, routes")
			return
		}
		p.file.Owns[kind] = true
	})
}

// object reads an object, and says whether it is right and the only one of its name.
func (p *parser) object(n *yaml.Node, path string, kind Kind, m proto.Message, name *string) bool {
	before := len(p.Problems)
	p.Message(n, path, m.ProtoReflect())
	if len(p.Problems) > before {
		return false
	}
	p.failWith(path, check(m))
	return len(p.Problems) == before && p.once(n, path, kind, *name)
}

// once notes an object, and says whether it is the first of its name.
func (p *parser) once(n *yaml.Node, path string, kind Kind, name string) bool {
	key := string(kind) + "/" + name
	if first, twice := p.names[key]; twice {
		p.Fail(n, path, "%q is there twice; the first is at %s", name, first)
		return false
	}
	p.names[key] = fmt.Sprintf("%s:%d", p.name, n.Line)
	return true
}

// failWith notes an error about what was read at a path; nil is none.
func (p *parser) failWith(path string, err error) {
	f := fault.From(err)
	switch {
	case f == nil:
	case len(f.Violations) == 0:
		p.FailAt(path, "%s", f.Message)
	default:
		for _, v := range f.Violations {
			at := path
			if v.Field != "" {
				at += "." + v.Field
			}
			p.FailAt(at, "%s", v.Message)
		}
	}
}

func (p *parser) conditions(path string, m *tollgatev1.CreateRoleRequest) {
	for i, g := range m.GetGrants() {
		if g.GetCondition() == "" {
			continue
		}
		if _, err := condition.Compile(g.GetCondition()); err != nil {
			p.FailAt(fmt.Sprintf("%s.grants[%d].condition", path, i), "%v", err)
		}
	}
}

func (p *parser) assignment(n *yaml.Node, path string) {
	var a Assignment
	before := len(p.Problems)
	p.Object(n, path, func(key, value *yaml.Node, at string) {
		switch key.Value {
		case "user":
			a.User = p.text(value, at)
		case "roles":
			p.List(value, at, func(item *yaml.Node, at string) { a.Roles = append(a.Roles, p.hold(item, at)) })
		default:
			p.Fail(key, at, "is not known; known are roles, user")
		}
	})
	if a.User == "" && len(p.Problems) == before {
		p.Fail(n, path, "user: must not be empty")
	}
	held := map[string]bool{}
	for i, h := range a.Roles {
		if held[h.Role] {
			p.FailAt(fmt.Sprintf("%s.roles[%d]", path, i), "is there twice")
		}
		held[h.Role] = true
	}
	if len(p.Problems) == before && p.once(n, path, Assignments, a.User) {
		p.file.Assignments = append(p.file.Assignments, a)
	}
}

// hold reads a role's name, or a role with an end.
func (p *parser) hold(n *yaml.Node, path string) (h Hold) {
	if n.Kind != yaml.MappingNode {
		return Hold{Role: p.text(n, path)}
	}
	m := &tollgatev1.AssignRoleRequest{}
	p.Object(n, path, func(key, value *yaml.Node, at string) {
		switch key.Value {
		case "role":
			h.Role = p.text(value, at)
		case "expiresAt":
			one := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{key, value}}
			p.Message(one, path, m.ProtoReflect())
		default:
			p.Fail(key, at, "is not known; known are expiresAt, role")
		}
	})
	if m.GetExpiresAt() != nil {
		h.Expires = m.GetExpiresAt().AsTime()
	}
	return h
}

func (p *parser) text(n *yaml.Node, path string) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || n.Value == "" {
		p.Fail(n, path, "must be text; put it in quotes")
		return ""
	}
	return n.Value
}

// newValidator makes it once, because the rules of the contract take long to compile.
var newValidator = sync.OnceValues(func() (protovalidate.Validator, error) { return protovalidate.New() })

// check checks a message by the bounds of the contract, as the server does.
func check(m proto.Message) error {
	validator, err := newValidator()
	if err != nil {
		return err
	}
	return guard.Check(validator, m)
}
