package contract

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

var (
	reasonForm  = regexp.MustCompile(`^([A-Z]+(_[A-Z]+)*|[a-z]+(_[a-z]+)*)$`)
	reasonConst = regexp.MustCompile(`^(reason|Reason|ended|revoked)[A-Z]`)
)

// reasonsIn calls found for every reason that a file writes: in an error, an
// audit event or a constant.
func reasonsIn(file *ast.File, found func(text string, at token.Pos)) {
	literal := func(e ast.Expr) {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if text, err := strconv.Unquote(l.Value); err == nil {
				found(text, l.Pos())
			}
		}
	}
	named := func(e ast.Expr, names ...string) bool {
		name := ""
		switch e := e.(type) {
		case *ast.Ident:
			name = e.Name
		case *ast.SelectorExpr:
			name = e.Sel.Name
		}
		return slices.Contains(names, name)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			switch {
			case named(n.Fun, "Because") && len(n.Args) == 1:
				literal(n.Args[0])
			case named(n.Fun, "New") && len(n.Args) > 2: // fault.New(kind, reason, message, …)
				literal(n.Args[1])
			}
		case *ast.KeyValueExpr:
			if named(n.Key, "Reason") {
				literal(n.Value)
			}
		case *ast.AssignStmt:
			for i, left := range n.Lhs {
				if named(left, "Reason") && i < len(n.Rhs) {
					literal(n.Rhs[i])
				}
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if reasonConst.MatchString(name.Name) && i < len(n.Values) {
					literal(n.Values[i])
				}
			}
		}
		return true
	})
}

// Every reason in errors, audit events and decisions is in the contract's list,
// and the list has none that is not used.
func TestReasons(t *testing.T) {
	t.Parallel()
	unused := map[string]bool{}
	for number, name := range tollgatev1.Reason_name {
		if number > 0 && number < 140 { // from there on: codes of the protocol's layer
			unused[strings.TrimPrefix(name, "REASON_")] = true
		}
	}
	files := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		reasonsIn(file, func(text string, at token.Pos) {
			if !reasonForm.MatchString(text) {
				return
			}
			name := strings.ToUpper(text)
			if _, known := tollgatev1.Reason_value["REASON_"+name]; !known {
				t.Errorf("%s: %s is not in reason.proto", files.Position(at), text)
			}
			delete(unused, name)
		})
		return nil
	})
	backendtest.Must(t, err)
	for name := range unused {
		t.Errorf("no code has the reason %s", name)
	}
}
