package roles

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// TestCheckAll: roles that are checked without a database are refused as Create
// refuses them, and with the same words.
func TestCheckAll(t *testing.T) {
	t.Parallel()
	line := []Role{{Name: "r00"}}
	for n := 1; n <= maxDeep; n++ {
		line = append(line, Role{Name: fmt.Sprintf("r%02d", n), Inherits: []string{fmt.Sprintf("r%02d", n-1)}})
	}
	for name, test := range map[string]struct {
		list []Role
		says string // of the last role; empty: nothing
	}{
		"nothing":                  {[]Role{{Name: "reader", Permissions: []string{"documents:*"}, Inherits: []string{"auditor"}}}, ""},
		"a bad name":               {[]Role{{Name: "Reader"}}, "name: must be a lower-case letter"},
		"a reserved name":          {[]Role{{Name: "tollgate-x"}}, "name: must not start with"},
		"a name that is taken":     {[]Role{{Name: "auditor"}}, `a role "auditor" exists already`},
		"a bad description":        {[]Role{{Name: "reader", Description: "a\x00b"}}, "description: "},
		"a bad pattern":            {[]Role{{Name: "reader", Permissions: []string{"a", "a:*:b"}}}, "permissions[1]: may have"},
		"one of Tollgate's, wrong": {[]Role{{Name: "reader", Permissions: []string{"tollgate:user:read"}}}, `did you mean "tollgate:users:read"`},
		"a bad condition":          {[]Role{{Name: "reader", Grants: []Grant{{"a", "", Allow, ""}, {"a", "owner == ''", Allow, ""}}}}, "grants[1].condition: line 1, column 1: undeclared"},
		"a deny of Tollgate's":     {[]Role{{Name: "reader", Grants: []Grant{{"tollgate:users:*", "", Deny, ""}}}}, "grants[0].permission: must not deny"},
		"no effect":                {[]Role{{Name: "reader", Grants: []Grant{{Permission: "a"}}}}, "grants[0].effect: must be"},
		"itself":                   {[]Role{{Name: "reader", Inherits: []string{"reader"}}}, "would inherit itself"},
		"nobody":                   {[]Role{{Name: "reader", Inherits: []string{"writer"}}}, `there is no role "writer"`},
		"too deep":                 {line, "at most 16 deep"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			declared := Declared{Permissions: []string{"tollgate:users:read", "tollgate:users:write"}}
			last := len(test.list) - 1
			var said string
			CheckAll(test.list, declared, func(at int, err error) {
				if at == last {
					said = fault.From(err).Message
				}
			})
			if test.says == "" && said != "" || !strings.Contains(said, test.says) {
				t.Errorf("it says %q, want %q", said, test.says)
			}
			i := start(t, backendtest.SQLite(t))
			i.Declare(declared)
			var created string
			for _, r := range test.list {
				if _, _, err := i.Create(i.system(), r); err != nil {
					created = fault.From(err).Message
				}
			}
			// Create has more to say about a name that is taken: update it.
			if same, _, _ := strings.Cut(strings.TrimPrefix(said, "name: "), "; choose"); said != created && !strings.HasPrefix(created, same+"; choose") {
				t.Errorf("Create says %q, and CheckAll %q", created, said)
			}
		})
	}
}

// TestCheckAllCircle: each role of a circle is refused.
func TestCheckAllCircle(t *testing.T) {
	t.Parallel()
	var refused []int
	CheckAll([]Role{{Name: "a", Inherits: []string{"b"}}, {Name: "b", Inherits: []string{"a"}}, {Name: "c"}}, Declared{}, func(at int, _ error) {
		refused = append(refused, at)
	})
	if !slices.Equal(refused, []int{0, 1}) {
		t.Errorf("refused: %v", refused)
	}
}
