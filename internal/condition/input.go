package condition

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// Input is what a condition reads. The maps are shared: a condition changes none.
type Input struct {
	PrincipalID string
	Username    string
	Kind        string
	Roles       []string
	APIKeyID    string
	Attributes  map[string]any // the principal's

	ResourceType       string
	ResourceID         string
	ResourceAttributes map[string]any

	Action           string
	ActionProperties map[string]any

	Context map[string]any
	IP      netip.Addr // the zero Addr: not known
	Now     time.Time
}

// none is the map of what there is nothing of.
var none = map[string]any{}

// ResolveName is the value of a variable, for cel.Activation.
func (in *Input) ResolveName(name string) (any, bool) {
	switch name {
	case "principal.id":
		return in.PrincipalID, true
	case "principal.username":
		return in.Username, true
	case "principal.kind":
		return in.Kind, true
	case "principal.roles":
		return in.Roles, true
	case "principal.attributes":
		return orNone(in.Attributes), true
	case "principal.api_key_id":
		return in.APIKeyID, true
	case "resource.type":
		return in.ResourceType, true
	case "resource.id":
		return in.ResourceID, true
	case "resource.attributes":
		return orNone(in.ResourceAttributes), true
	case "action.name":
		return in.Action, true
	case "action.properties":
		return orNone(in.ActionProperties), true
	case "context":
		return orNone(in.Context), true
	case "ip":
		return in.IP.String(), in.IP.IsValid()
	case "now":
		return in.Now, true
	}
	return nil, false
}

// Parent is none, for cel.Activation.
func (in *Input) Parent() cel.Activation { return nil }

func orNone(m map[string]any) map[string]any {
	if m == nil {
		return none
	}
	return m
}

// Holds says whether the condition is true. An error, such as of a missing attribute
// or of too high a cost, is neither yes nor no.
func (c *Condition) Holds(in *Input) (bool, error) {
	value, _, err := c.program.Eval(in)
	if err != nil {
		return false, fmt.Errorf("run condition: %w", err)
	}
	yes, ok := value.Value().(bool)
	if !ok {
		return false, fmt.Errorf("run condition: it is of the type %s", value.Type().TypeName())
	}
	return yes, nil
}

// path is one thing that an expression reads: a variable, and the names of fields
// that are written after it.
type path struct {
	variable string
	fields   []string
}

func (p path) String() string { return strings.Join(append([]string{p.variable}, p.fields...), ".") }

// readsOf are the paths in an expression, each once.
func readsOf(e ast.Expr) []path {
	var paths []path
	add := func(p path) {
		if !slices.ContainsFunc(paths, func(q path) bool { return q.String() == p.String() }) {
			paths = append(paths, p)
		}
	}
	var walk func(e ast.Expr)
	walk = func(e ast.Expr) {
		if p, ok := pathOf(e); ok {
			add(p)
			return
		}
		for _, part := range partsOf(e) {
			walk(part)
		}
	}
	walk(e)
	return paths
}

// pathOf is the path that an expression is: principal.attributes.department, or
// resource.attributes["owner"].
func pathOf(e ast.Expr) (path, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		name := strings.TrimPrefix(e.AsIdent(), ".") // as it is written where a name of exists() hides it
		return path{variable: name}, slices.Contains(Names(), name)
	case ast.SelectKind:
		s := e.AsSelect()
		p, ok := pathOf(s.Operand())
		if !ok { // the dot of a variable's own name
			if inner := s.Operand(); inner.Kind() == ast.IdentKind {
				name := strings.TrimPrefix(inner.AsIdent(), ".") + "." + s.FieldName()
				return path{variable: name}, slices.Contains(Names(), name)
			}
			return path{}, false
		}
		p.fields = append(slices.Clone(p.fields), s.FieldName())
		return p, true
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != "_[_]" || len(call.Args()) != 2 || call.Args()[1].Kind() != ast.LiteralKind {
			return path{}, false
		}
		key, ok := call.Args()[1].AsLiteral().Value().(string)
		p, found := pathOf(call.Args()[0])
		if !ok || !found {
			return path{}, false
		}
		p.fields = append(slices.Clone(p.fields), key)
		return p, true
	default:
		return path{}, false
	}
}

// Reads are the names that the expression reads, as "resource.attributes.owner".
func (c *Condition) Reads() []string {
	names := make([]string, len(c.paths))
	for i, p := range c.paths {
		names[i] = p.String()
	}
	return names
}

// DependsOnRequest says whether it reads what only a request has: its context, its
// action's properties, its address or its time.
func (c *Condition) DependsOnRequest() bool {
	return slices.ContainsFunc(c.paths, func(p path) bool {
		return p.variable == "context" || p.variable == "action.properties" || p.variable == "ip" || p.variable == "now"
	})
}

// maxShown is how much of a value Values shows, in bytes.
const maxShown = 256

// secret are parts of names whose values are not shown.
var secret = []string{"secret", "password", "passwd", "token", "credential", "private", "otp", "pin"}

// Values are what the expression reads and what was there, as JSON, for people: long
// values are cut, those whose names sound secret are left out, and so is what
// there is nothing of.
func (c *Condition) Values(in *Input) map[string]string {
	values := map[string]string{}
	for _, p := range c.paths {
		value, ok := in.ResolveName(p.variable)
		for _, field := range p.fields {
			m, isMap := value.(map[string]any)
			if !ok || !isMap {
				ok = false
				break
			}
			value, ok = m[field]
		}
		if ok {
			values[p.String()] = shown(p, value)
		}
	}
	return values
}

func shown(p path, value any) string {
	if soundsSecret(p.fields...) {
		return "(not shown)"
	}
	text, err := json.Marshal(withoutSecrets(value))
	if err != nil {
		return "(not shown)"
	}
	if len(text) > maxShown {
		return strings.ToValidUTF8(string(text[:maxShown]), "") + "…"
	}
	return string(text)
}

// withoutSecrets leaves out what has a secret's name, in whole maps that are shown.
func withoutSecrets(value any) any {
	switch v := value.(type) {
	case map[string]any:
		rest := make(map[string]any, len(v))
		for name, inner := range v {
			if !soundsSecret(name) {
				rest[name] = withoutSecrets(inner)
			}
		}
		return rest
	case []any:
		rest := make([]any, len(v))
		for i, inner := range v {
			rest[i] = withoutSecrets(inner)
		}
		return rest
	}
	return value
}

func soundsSecret(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		name = strings.ToLower(name)
		return slices.ContainsFunc(secret, func(part string) bool { return strings.Contains(name, part) })
	})
}

// ReadsAny says whether the expression reads a variable of this name, or one whose
// name begins with it and a dot.
func (c *Condition) ReadsAny(name string) bool {
	return slices.ContainsFunc(c.paths, func(p path) bool {
		return p.variable == name || strings.HasPrefix(p.variable, name+".")
	})
}
