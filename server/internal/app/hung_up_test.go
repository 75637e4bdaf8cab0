package app

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// A caller that hangs up or runs out of time is no failure of ours: not in the
// code, not in the metrics, not in the log.
func TestCallersThatLeaveAreNoFailure(t *testing.T) {
	t.Parallel()
	i := startQuiet(t)
	handler, err := i.Handler()
	backendtest.Must(t, err)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()

	const whoAmI, authorize = "/tollgate.v1.AuthService/WhoAmI", "/tollgate.v1.RolesService/Authorize"
	calls := []struct{ method, path, contentType, body string }{
		{"GET", "/v1/auth/whoami", "", ""},
		{"POST", whoAmI, "application/json", "{}"},
		{"POST", whoAmI, "application/grpc", "\x00\x00\x00\x00\x00"},
		{"POST", "/v1/authorize", "application/json", `{"permission":"orders:read","accessToken":"x"}`},
		{"POST", authorize, "application/json", `{"permission":"orders:read","accessToken":"x"}`},
		{"POST", "/console/session/login", "application/json", `{"username":"admin","password":"x"}`},
		{"POST", "/v1/oauth2/token", "application/x-www-form-urlencoded", "grant_type=refresh_token&refresh_token=x"},
	}
	callers := 0
	for _, c := range calls {
		for _, end := range []struct {
			ctx    context.Context
			status int
			grpc   string
		}{{gone, 499, "1"}, {late, http.StatusGatewayTimeout, "4"}} {
			r := httptest.NewRequestWithContext(end.ctx, c.method, c.path, strings.NewReader(c.body))
			callers++ // each at an address of its own, whose first refusal waits for its record
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1234", callers)
			r.Header.Set("Content-Type", c.contentType)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			if strings.Contains(c.path, "uthorize") {
				r.Header.Set("Authorization", "Bearer "+i.admin)
			}
			out := httptest.NewRecorder()
			handler.ServeHTTP(out, r)
			res := out.Result()
			if c.contentType == "application/grpc" {
				if got := res.Trailer.Get("Grpc-Status"); got != end.grpc {
					t.Errorf("%s: grpc-status %q, want %s", c.path, got, end.grpc)
				}
			} else if res.StatusCode != end.status || res.Header.Get("Retry-After") != "" {
				t.Errorf("%s %s: %d %v %s, want %d", c.path, c.contentType, res.StatusCode, res.Header, out.Body, end.status)
			}
		}
	}

	text, _ := i.scrape(t)
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "tollgate_requests_total") && (strings.Contains(line, `"unavailable"`) || strings.Contains(line, `"internal"`)) {
			t.Errorf("counted as ours: %s", line)
		}
	}
	for _, procedure := range []string{whoAmI, authorize} {
		for _, code := range []string{"canceled", "deadline_exceeded"} {
			if want := `tollgate_requests_total{code="` + code + `",procedure="` + procedure + `"}`; !strings.Contains(text, want) {
				t.Errorf("there is no %s", want)
			}
		}
	}
}
