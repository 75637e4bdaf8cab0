package guard

import (
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// The contract's patterns and package roles know the same permissions.
func TestPermissionGrammar(t *testing.T) {
	t.Parallel()
	validator, err := protovalidate.New()
	backendtest.Must(t, err)
	takes := func(message proto.Message, field string) bool {
		err := validator.Validate(message)
		return err == nil || !strings.Contains(err.Error(), field)
	}
	segment := rapid.OneOf(rapid.StringMatching(`[a-z0-9._-]{1,20}`), rapid.SampledFrom([]string{"*", "", "A", "ü", "a*", " ", "a\n", strings.Repeat("a", 120)}))
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(segment, 1, 10).Draw(t, "segments"), ":")
		if text == "" || strings.HasPrefix(text, "tollgate:") {
			return
		}
		valid := perm.ValidPermission(text) == nil
		if got := takes(&tollgatev1.AuthorizeRequest{Permission: text}, "permission"); got != valid {
			t.Errorf("%q as a permission: the contract says %t, roles %t", text, got, valid)
		}
		valid = perm.ValidPattern(text) == nil
		for _, message := range []proto.Message{
			&tollgatev1.CreateRoleRequest{Name: "a", Permissions: []string{text}}, &tollgatev1.UpdateRoleRequest{Name: "a", Permissions: []string{text}},
			&tollgatev1.CreateLimitRequest{Permission: text}, &tollgatev1.UpdateLimitRequest{Name: "a", Permission: &text},
			&tollgatev1.CreateAPIKeyRequest{Scopes: []string{text}},
		} {
			if got := takes(message, "permission") && takes(message, "scopes"); got != valid {
				t.Errorf("%q in %T: the contract says %t, roles %t", text, message, got, valid)
			}
		}
	})
}
