package roles

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

func TestValidName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "sign-in_2.x": true, "": false, "A": false, "1a": false, "a b": false, "aé": false, "a:b": false, "a@b": false,
	} {
		backendtest.Equal(t, ValidName(name), want, "ValidName(%q)", name)
	}
}
