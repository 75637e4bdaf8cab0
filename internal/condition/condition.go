// Package condition compiles and runs the conditions of grants: expressions in CEL
// (https://github.com/google/cel-spec) over who calls, what about and from where.
// An expression is checked against the names and types below when it is compiled,
// is bounded in size, depth and cost, and does no I/O.
package condition

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/ext"

	// Time zones by name, on machines that have none.
	_ "time/tzdata"
)

const (
	// MaxSize is how long an expression may be, in bytes.
	MaxSize = 4096
	// maxDepth is how deep its parts may be nested.
	maxDepth = 32
	// maxCost is what one run may cost, in CEL's unit, about the price of one
	// comparison. What would cost more fails, which denies.
	maxCost = 10_000
	// usualSize is the size that lists, maps and texts of attributes are taken to
	// have when the cost is estimated. Larger ones meet maxCost when it runs.
	usualSize = 256
)

// variables are the names that an expression may read, with their types. The dot is
// part of the name: so each is checked by itself, and nothing is built to hold
// them when an expression runs.
var variables = []struct {
	name string
	kind *cel.Type
}{
	{"principal.id", cel.StringType},
	{"principal.username", cel.StringType},
	{"principal.kind", cel.StringType}, // "person" or "service"
	{"principal.roles", cel.ListType(cel.StringType)},
	{"principal.attributes", cel.MapType(cel.StringType, cel.DynType)},
	{"principal.api_key_id", cel.StringType}, // empty: not by an API key
	{"resource.type", cel.StringType},
	{"resource.id", cel.StringType},
	{"resource.attributes", cel.MapType(cel.StringType, cel.DynType)},
	{"action.name", cel.StringType},
	{"action.properties", cel.MapType(cel.StringType, cel.DynType)},
	{"context", cel.MapType(cel.StringType, cel.DynType)},
	{"ip", cel.StringType}, // of the caller; not known: reading it fails
	{"now", cel.TimestampType},
}

// Names are the names that an expression may read.
func Names() []string {
	names := make([]string, len(variables))
	for i, v := range variables {
		names[i] = v.name
	}
	return names
}

var environment = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.EagerlyValidateDeclarations(true), cel.HomogeneousAggregateLiterals(), cel.OptionalTypes(),
		cel.EnableMacroCallTracking(), cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(MaxSize), cel.ParserRecursionLimit(maxDepth),
		ext.Strings(), ext.Sets(), ext.Network(),
	}
	for _, v := range variables {
		options = append(options, cel.Variable(v.name, v.kind))
	}
	return cel.NewEnv(options...)
})

// Condition is a compiled expression. It is safe for concurrent use.
type Condition struct {
	text      string
	program   cel.Program
	paths     []path   // what it reads, as far as that is written in it
	zones     bool     // it reads the rules of time zones
	conjuncts []string // it is true just when all of these are
}

// Error says what is wrong with an expression, and where.
type Error struct {
	Line, Column int // from 1; 0: nowhere in particular
	Message      string
}

// Error is the message with its position.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Compile compiles an expression that says yes or no. The error is an *Error.
func Compile(text string) (*Condition, error) {
	if len(text) > MaxSize {
		return nil, &Error{Message: fmt.Sprintf("is longer than %d bytes", MaxSize)}
	}
	env, err := environment()
	if err != nil {
		return nil, &Error{Message: "cannot be checked: " + err.Error()}
	}
	checked, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		first := issues.Errors()[0]
		return nil, &Error{first.Location.Line(), first.Location.Column() + 1, explain(first.Message)}
	}
	if kind := checked.OutputType(); !kind.IsExactType(cel.BoolType) {
		return nil, &Error{Message: fmt.Sprintf("must say true or false, and is of the type %s; compare it with something", kind)}
	}
	estimate, err := env.EstimateCost(checked, sizes{})
	if err != nil {
		return nil, &Error{Message: "its cost cannot be told: " + err.Error()}
	}
	if estimate.Max > maxCost {
		return nil, &Error{Message: fmt.Sprintf("may cost %s, more than the %d that it may: nest fewer exists() and all(), or compare shorter texts", cost(estimate.Max), maxCost)}
	}
	program, err := env.Program(checked, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &Error{Message: err.Error()}
	}
	c := &Condition{text: text, program: program}
	root := checked.NativeRep().Expr()
	c.paths, c.zones = readsOf(root), anyPart(root, namesZone)
	if c.conjuncts, err = conjunctsOf(env, text); err != nil {
		return nil, &Error{Message: err.Error()}
	}
	return c, nil
}

// Text is the expression as it was given.
func (c *Condition) Text() string { return c.text }

func cost(n uint64) string {
	if n > math.MaxUint32 {
		return "without bound"
	}
	return fmt.Sprint(n)
}

// explain adds what is known to CEL's message about a name that is not.
func explain(message string) string {
	if strings.HasPrefix(message, "undeclared reference to") {
		message = strings.TrimSuffix(message, " (in container '')")
		return message + "; known are " + strings.Join(Names(), ", ")
	}
	return message
}

// sizes are those of what is only known when an expression runs.
type sizes struct{}

func (sizes) EstimateSize(checker.AstNode) *checker.SizeEstimate {
	return &checker.SizeEstimate{Min: 0, Max: usualSize}
}

func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// conjunctsOf takes an expression apart at its outer "&&" and writes the parts in one
// spelling.
func conjunctsOf(env *cel.Env, text string) ([]string, error) {
	parsed, issues := env.Parse(text)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	info := parsed.NativeRep().SourceInfo()
	var parts []string
	var walk func(e ast.Expr) error
	walk = func(e ast.Expr) error {
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
			for _, arg := range e.AsCall().Args() {
				if err := walk(arg); err != nil {
					return err
				}
			}
			return nil
		}
		part, err := cel.ExprToString(e, info)
		parts = append(parts, part)
		return err
	}
	if err := walk(parsed.NativeRep().Expr()); err != nil {
		return nil, err
	}
	slices.Sort(parts)
	return slices.Compact(parts), nil
}

// Implies says whether c is true only when the other is, as far as can be seen: it
// has all of the other's parts between "&&". A false no is possible, a false yes is
// not: an "&&" is true only when each of its parts is, without an error.
func (c *Condition) Implies(other *Condition) bool {
	for _, part := range other.conjuncts {
		if !slices.Contains(c.conjuncts, part) {
			return false
		}
	}
	return true
}
