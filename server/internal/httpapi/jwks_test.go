package httpapi

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/tollgatehq/tollgate/internal/jose"
)

func TestJWKS(t *testing.T) {
	t.Parallel()
	handler := jwks(func() []byte { return []byte(`{"keys":[]}`) })
	get := func(tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/.well-known/jwks.json", nil)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
		w := httptest.NewRecorder()
		handler(w, r)
		return w
	}
	fresh := get("")
	tag := fresh.Header().Get("Etag")
	if fresh.Code != 200 || fresh.Body.String() != `{"keys":[]}` || fresh.Header().Get("Content-Type") != "application/jwk-set+json" ||
		fresh.Header().Get("Cache-Control") != fmt.Sprintf("public, max-age=%d", int(jose.KeySetMaxAge.Seconds())) {
		t.Fatalf("%d %v %s", fresh.Code, fresh.Header(), fresh.Body)
	}
	for _, test := range []struct {
		name, tag string
		want      int
	}{
		{"the same", tag, 304}, {"a list", `"x", ` + tag, 304}, {"weak", "W/" + tag, 304}, {"any", "*", 304},
		{"another", `"x"`, 200}, {"part of another", `"x` + tag[1:], 200},
	} {
		if got := get(test.tag); got.Code != test.want || got.Header().Get("Etag") != tag {
			t.Errorf("%s: %d %v, want %d", test.name, got.Code, got.Header(), test.want)
		}
	}
}
