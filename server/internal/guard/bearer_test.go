package guard

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
)

// A credential that is taken is one, of one kind, and the header is the scheme,
// a space and it.
func FuzzBearer(f *testing.F) {
	for _, seed := range []string{
		"Bearer x", "bearer x", "BEARER tg_x", "Bearer", "Bearer ", "Bearer  x", "Bearer\tx", "Bearer x y", "Bearer x,Bearer y", "Basic x", "", "x", "Bearer tg_", "\x00 x",
	} {
		f.Add(seed, "")
		f.Add(seed, "Bearer y")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		header := http.Header{"Authorization": {first}}
		if second != "" {
			header.Add("Authorization", second)
		}
		c, err := Bearer(header)
		token := c.AccessToken + c.APIKey
		if err != nil {
			if c != (auth.Credential{}) {
				t.Fatalf("%q is refused and read", first)
			}
			return
		}
		if second != "" || c.AccessToken != "" && c.APIKey != "" || token == "" || len(first) != len("Bearer ")+len(token) ||
			!strings.HasSuffix(first, " "+token) || strings.ContainsAny(token, " \t,") || strings.HasPrefix(token, apikey.Prefix) != (c.APIKey != "") {
			t.Fatalf("%q, %q is read as %+v", first, second, c)
		}
	})
}
