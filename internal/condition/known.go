package condition

import (
	"slices"

	"cel.dev/cel-go/common/ast"
)

// Known says which parts of an Input are as the server would have them. What it does
// not name always is.
type Known struct {
	Attributes bool // the principal's
	Resource   bool // ResourceAttributes are all; otherwise there may be more
	Now        bool
}

// Decides reports whether a run with this input comes out as on the server: the
// condition reads nothing that is not known. Where the rules of a time zone are read,
// which come from each machine, the time counts as not known.
func (c *Condition) Decides(in *Input, known Known) bool {
	if c.zones && !known.Now {
		return false
	}
	for _, p := range c.paths {
		switch p.variable {
		case "principal.attributes":
			if !known.Attributes {
				return false
			}
		case "now":
			if !known.Now {
				return false
			}
		case "resource.attributes":
			if known.Resource {
				continue
			}
			if len(p.fields) == 0 {
				return false
			}
			if _, given := in.ResourceAttributes[p.fields[0]]; !given {
				return false
			}
		}
	}
	return true
}

// zoned are the functions of a timestamp that may be given a time zone.
var zoned = []string{
	"getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek",
	"getHours", "getMinutes", "getSeconds", "getMilliseconds",
}

// namesZone reports whether e itself is a call with a time zone.
func namesZone(e ast.Expr) bool {
	return e.Kind() == ast.CallKind && len(e.AsCall().Args()) > 0 && slices.Contains(zoned, e.AsCall().FunctionName())
}

// anyPart reports whether is says yes to e or a part of it.
func anyPart(e ast.Expr, is func(ast.Expr) bool) bool {
	return is(e) || slices.ContainsFunc(partsOf(e), func(part ast.Expr) bool { return anyPart(part, is) })
}

// partsOf are the expressions that e is made of.
func partsOf(e ast.Expr) (parts []ast.Expr) {
	switch e.Kind() {
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	case ast.CallKind:
		call := e.AsCall()
		if call.IsMemberFunction() {
			parts = append(parts, call.Target())
		}
		return append(parts, call.Args()...)
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			parts = append(parts, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.StructKind: // google.protobuf.StringValue{value: …}
		for _, field := range e.AsStruct().Fields() {
			parts = append(parts, field.AsStructField().Value())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		return []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()}
	default:
	}
	return parts
}
