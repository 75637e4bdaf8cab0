package tollgate

import (
	"fmt"
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// TestExpressionsBounded: of conditions without number, some are kept, as they were,
// and the others are never sure.
func TestExpressionsBounded(t *testing.T) {
	t.Parallel()
	roles := map[string]*role{}
	for i := range maxConditions/100 + 5 {
		own := &tollgatev1.PolicyRole{Name: fmt.Sprint("r", i)}
		for j := range 100 {
			own.Grants = append(own.Grants, &tollgatev1.Grant{Permission: "p", Condition: fmt.Sprintf("%d > %d", i, j)})
		}
		roles[own.GetName()] = &role{own: own}
	}
	kept := expressions(uncompiled{}, roles, nil)
	if len(kept) != maxConditions {
		t.Errorf("%d are kept", len(kept))
	}
	for text, e := range kept {
		again := expressions(uncompiled{}, map[string]*role{"r": {own: &tollgatev1.PolicyRole{Grants: []*tollgatev1.Grant{{Condition: text}}}}}, kept)
		if len(again) != 1 || again[text] != e {
			t.Errorf("%s is another one", text)
		}
		break
	}
	var missing *expression
	if yes, sure := missing.holds(&Facts{}); yes || sure {
		t.Error("what is not kept decides")
	}
	if len(expressions(nil, roles, nil)) > 0 {
		t.Error("conditions are kept without anything that evaluates them")
	}
}

// uncompiled compiles nothing.
type uncompiled struct{}

func (uncompiled) Compile(string) (Condition, error) { panic("compiled before it is needed") }
