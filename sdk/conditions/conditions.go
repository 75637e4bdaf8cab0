// Package conditions evaluates grants' conditions in your process, for
// [tollgate.WithLocalDecisions]:
//
//	tollgate.WithLocalDecisions(tollgate.LocalConfig{Conditions: conditions.Evaluator()})
//
// It has the engine of Tollgate's server, with the same bounds: an expression in CEL
// of at most 4096 bytes, which costs at most 10,000 of CEL's units. Package tollgate
// does not import it: only programs that do link CEL, 4 MB with the rules of time zones.
package conditions

import (
	"errors"
	"strings"

	"github.com/tollgatehq/tollgate/internal/condition"
	tollgate "github.com/tollgatehq/tollgate/sdk"
)

// Evaluator returns Tollgate's own evaluator.
func Evaluator() tollgate.Conditions { return evaluator{} }

type evaluator struct{}

func (evaluator) Compile(text string) (tollgate.Condition, error) {
	c, err := condition.Compile(text)
	if err != nil {
		return nil, err
	}
	return compiled{c}, nil
}

type compiled struct{ condition *condition.Condition }

var errNotKnown = errors.New("it reads what is not known here")

// Holds runs the condition when it reads nothing that is not known.
func (c compiled) Holds(f *tollgate.Facts) (bool, error) {
	in := inputOf(f)
	known := condition.Known{Attributes: f.Attributes != nil, Resource: f.WholeResource, Now: !f.Now.IsZero()}
	if !c.condition.Decides(in, known) {
		return false, errNotKnown
	}
	return c.condition.Holds(in)
}

// inputOf returns the facts as the server would have them.
func inputOf(f *tollgate.Facts) *condition.Input {
	in := &condition.Input{
		PrincipalID: f.Principal.UserID, Username: f.Principal.Username, Kind: "person", Roles: f.Principal.Roles,
		APIKeyID: f.Principal.APIKeyID, Attributes: f.Attributes,
		ResourceAttributes: f.ResourceAttributes, ActionProperties: f.ActionProperties,
		Action: f.Permission[strings.LastIndexByte(f.Permission, ':')+1:], IP: f.IP, Now: f.Now,
	}
	if f.Principal.Service {
		in.Kind = "service"
	}
	in.ResourceType, in.ResourceID, _ = strings.Cut(f.Resource, "/")
	if len(f.Context) > 0 {
		in.Context = make(map[string]any, len(f.Context))
		for name, value := range f.Context {
			in.Context[name] = value
		}
	}
	return in
}
