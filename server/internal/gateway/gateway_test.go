package gateway_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestDecidesAndForwards(t *testing.T) {
	t.Parallel()
	g := start(t, hello)
	g.api.Post(t, "/v1/limits", apitest.Object{"name": "few", "subject": "SUBJECT_USER", "permission": "orders:read", "rate": 3, "period": "3600s"})

	a := g.Call(t, "GET", "/orders/7?b=1;c=2&a=%zz", nil, "X-Request-Id", "mine").Want(t, 200)
	backendtest.Equal(t, string(a.Raw), "hello\n", "body")
	backendtest.Equal(t, a.Header.Get("X-Request-Id"), "mine", "request id")
	backendtest.Equal(t, a.Header.Get("Cache-Control"), "private", "Cache-Control of what is one caller's")
	if !strings.HasPrefix(a.Header.Get("RateLimit"), `"few";r=2;`) {
		t.Errorf("RateLimit is %q", a.Header.Get("RateLimit"))
	}
	seen := g.upstream.last(t)
	backendtest.Equal(t, seen.RequestURI, "/orders/7?b=1;c=2&a=%zz", "target")
	backendtest.Equal(t, seen.Host, g.addr, "host")
	for name, want := range map[string]string{
		"X-Request-Id": "mine", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": g.addr, "X-Forwarded-Proto": "http",
		"Authorization": "", "X-Api-Key": "", "Accept-Encoding": "gzip", // the test client's own
	} {
		backendtest.Equal(t, seen.Header.Get(name), want, "%s", name)
	}
	principal, err := base64.RawURLEncoding.DecodeString(seen.Header.Get("Tollgate-Principal"))
	backendtest.Must(t, err)
	if !strings.Contains(string(principal), `"userId":"`+g.alice+`"`) || strings.Count(seen.Header.Get("Tollgate-Assertion"), ".") != 2 {
		t.Errorf("the identity is %s and %s", principal, seen.Header.Get("Tollgate-Assertion"))
	}

	before := len(g.upstream.requests())
	a = g.As("").Call(t, "GET", "/orders/7", nil).Want(t, 401)
	backendtest.Equal(t, a.Header.Get("WWW-Authenticate"), "Bearer", "challenge")
	backendtest.Equal(t, a.Reason(), "CREDENTIAL_MISSING", "reason")
	backendtest.Equal(t, a.Header.Get("Cache-Control"), "no-store", "a refusal's Cache-Control")
	if a.Header.Get("X-Request-Id") == "" {
		t.Error("a refusal has no request id")
	}
	backendtest.Equal(t, g.As("a.b.c").Call(t, "GET", "/orders/7", nil).Want(t, 401).Reason(), "CREDENTIAL_INVALID", "reason")
	backendtest.Equal(t, g.Call(t, "GET", "/elsewhere", nil).Want(t, 403).Reason(), "ROUTE_MISSING", "reason")
	g.route(t, "write", "/orders/new", apitest.Object{"permission": "orders:write"})
	backendtest.Equal(t, g.Call(t, "POST", "/orders/new", "x").Want(t, 403).Reason(), "PERMISSION_MISSING", "reason")
	backendtest.Equal(t, g.Call(t, "GET", "/orders/../x", nil).Want(t, 400).Reason(), "PATH_REFUSED", "reason")
	backendtest.Equal(t, len(g.upstream.requests()), before, "requests that the upstream saw of refused ones")
	g.Call(t, "GET", "/orders/7", nil).Want(t, 200)
	g.Call(t, "HEAD", "/orders/7", nil).Want(t, 200)
	a = g.Call(t, "GET", "/orders/7", nil).Want(t, 429)
	if a.Header.Get("Retry-After") == "" || !strings.HasPrefix(a.Header.Get("RateLimit"), `"few";r=0;`) {
		t.Errorf("a limited answer has %v", a.Header)
	}
	a = g.Call(t, "GET", "/public/x", nil).Want(t, 200)
	backendtest.Equal(t, a.Header.Get("Cache-Control"), "", "Cache-Control of what is anybody's")
}

// A public route keeps the client's own credential, of which Tollgate knows
// nothing, and says that nobody is known.
func TestPublicRoute(t *testing.T) {
	t.Parallel()
	g := start(t, hello)
	g.As("").Call(t, "GET", "/public/a/b", nil, "Authorization", "Basic YTpi", "X-Api-Key", "theirs").Want(t, 200)
	seen := g.upstream.last(t)
	backendtest.Equal(t, seen.Header.Get("Authorization"), "Basic YTpi", "Authorization")
	backendtest.Equal(t, seen.Header.Get("X-Api-Key"), "theirs", "X-Api-Key")
	principal, err := base64.RawURLEncoding.DecodeString(seen.Header.Get("Tollgate-Principal"))
	backendtest.Must(t, err)
	if !strings.Contains(string(principal), `"kind":"anonymous"`) {
		t.Errorf("the principal is %s", principal)
	}
	g.Call(t, "OPTIONS", "/public/a", nil).Want(t, 200)
	g.Call(t, "OPTIONS", "/orders/a", nil).Want(t, 200)
	g.As("").Call(t, "OPTIONS", "/orders/a", nil).Want(t, 401)
}

// The upstream of a route comes before the gateway's own.
func TestUpstreamOfARoute(t *testing.T) {
	t.Parallel()
	g := start(t, hello, func(c *app.Config) { c.GatewayUpstream = "" })
	a := g.Call(t, "GET", "/orders/7", nil).Want(t, 502)
	backendtest.Equal(t, a.Reason(), "NO_UPSTREAM", "reason")
	g.route(t, "own", "/own", apitest.Object{"public": true, "upstream": g.upstream.URL})
	g.Call(t, "GET", "/own", nil).Want(t, 200)
}

// What the upstream sends goes to the client but for what is the gateway's to say.
func TestResponseHeaders(t *testing.T) {
	t.Parallel()
	g := start(t, func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"Tollgate-Status", "Tollgate-Assertion", "tollgate_principal", "X-Tollgate-Key", "Alt-Svc", "X-Request-Id", "Etag", "Set-Cookie"} {
			w.Header()[name] = []string{"upstream"}
		}
		w.Header().Set("Trailer", "Tollgate-Assertion, Checksum")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
		w.(http.Flusher).Flush()
		w.Header().Set("Tollgate-Assertion", "upstream")
		w.Header().Set("Checksum", "1")
	})
	res, err := http.Get("http://" + g.addr + "/public/x")
	backendtest.Must(t, err)
	defer res.Body.Close()
	backendtest.Equal(t, res.StatusCode, http.StatusTeapot, "status")
	backendtest.Equal(t, res.Header.Get("Etag")+res.Header.Get("Set-Cookie"), "upstreamupstream", "the upstream's own headers")
	if id := res.Header.Get("X-Request-Id"); id == "" || id == "upstream" {
		t.Errorf("the request id is %q", id)
	}
	res.Write(&strings.Builder{}) // reads the trailers
	backendtest.Equal(t, res.Trailer.Get("Checksum"), "1", "trailer")
	for _, all := range []http.Header{res.Header, res.Trailer} {
		for name, values := range all {
			if lower := strings.ToLower(name); (strings.Contains(lower, "tollgate") || lower == "alt-svc") && strings.Join(values, "") != "" {
				t.Errorf("%s: %s comes from the upstream", name, values)
			}
		}
	}
}

func TestNoPlaceLeft(t *testing.T) {
	t.Parallel()
	held := make(chan struct{})
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/public/held" {
			<-held
		}
		hello(w, r)
	}, func(c *app.Config) { c.GatewayMaxRequests = 4 })
	done := make(chan int, 2)
	for range 2 {
		go func() {
			a, err := g.Try(t.Context(), "GET", "/public/held", nil)
			if err != nil {
				t.Error(err)
			}
			done <- a.Status
		}()
	}
	apitest.Eventually(t, "both are at the upstream", func() bool { return len(g.upstream.requests()) == 2 })
	a := g.Call(t, "GET", "/public/x", nil).Want(t, 503)
	backendtest.Equal(t, a.Reason(), "OVERLOADED", "reason")
	close(held)
	backendtest.Equal(t, <-done+<-done, 400, "the statuses of those that were held, together")
	g.Call(t, "GET", "/public/x", nil).Want(t, 200)
}

// TestAllowedIsRecorded: a request that the gateway let through is on record once where a
// recording asks for it, and one that could not be recorded is not forwarded.
func TestAllowedIsRecorded(t *testing.T) {
	t.Parallel()
	address := backendtest.SQLiteURL(t)
	g := start(t, hello, func(c *app.Config) { c.DatabaseURL = address })
	g.api.Post(t, "/v1/audit/recordings", apitest.Object{"name": "orders", "permission": "orders:*"})
	g.Call(t, "GET", "/orders/7", nil).Want(t, 200)
	g.Call(t, "GET", "/public/a", nil).Want(t, 200)
	list := g.api.Events(t, "action=access.allowed")
	if len(list) != 1 || apitest.Dig(list[0], "actor", "userId") != g.alice || apitest.Dig(list[0], "details", "permission") != "orders:read" {
		t.Errorf("recorded %v", list)
	}
	forwarded := len(g.upstream.requests())
	db, err := database.Open(address)
	backendtest.Must(t, err)
	defer db.Close()
	backendtest.Must(t, faulttest.Err(db.Exec(t.Context(), `ALTER TABLE audit_events RENAME TO gone`)))
	g.Call(t, "GET", "/orders/7", nil).Want(t, 503)
	backendtest.Equal(t, len(g.upstream.requests()), forwarded, "requests that were forwarded")
}
