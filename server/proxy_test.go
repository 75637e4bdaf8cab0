package main_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// protected is a service with a proxy in front that asks Tollgate.
type protected struct {
	*tollgate
	service *echo
	judged  string // the proxy's name
	proxy   string // its address
	key     string // the proxy's

	alice   string // her id; she may read orders and reports
	reader  string // a token of hers
	manager string // one of somebody who may do everything with orders
}

// judge checks everything that a proxy with our configuration must do.
func judge(t *testing.T, p proxy) {
	s := protect(t, p.name, newEcho(t))
	s.proxy = p.run(t, s.URL, s.service.address, s.key)
	s.judge(t, func(t *testing.T, service string) string { return p.run(t, s.URL, service, s.key) })
	t.Run("without Tollgate", s.withoutTollgate)
}

// protect starts a Tollgate that knows what a service's requests need, and who makes
// them.
func protect(t *testing.T, judged string, service *echo, env ...string) *protected {
	t.Helper()
	s := &protected{tollgate: serve(t, t.TempDir(), append(env, "TOLLGATE_ADMIN_PASSWORD="+adminPassword)...), service: service, judged: judged}
	s.Token = s.Login(t, "admin", adminPassword).Str("accessToken")
	s.key = s.NewService(t, "proxy")
	s.Patch(t, "/v1/limits/anonymous-refusals-per-ip", object{"rate": 1000000, "burst": 1000000})
	s.Post(t, "/v1/roles", object{"name": "reader", "permissions": []string{"orders:read", "reports:read"}})
	s.Post(t, "/v1/roles", object{"name": "manager", "permissions": []string{"orders:*"}})
	s.alice = s.NewUser(t, "alice", "a password of alice", "reader")
	s.NewUser(t, "bob", "a password of bob", "manager")
	s.reader = s.Login(t, "alice", "a password of alice").Str("accessToken")
	s.manager = s.Login(t, "bob", "a password of bob").Str("accessToken")
	s.route(t, "read", "/orders/{id}", object{"methods": []string{"GET"}, "permission": "orders:read"})
	s.route(t, "write", "/orders/{id}", object{"methods": []string{"POST"}, "permission": "orders:write"})
	return s
}

// judge checks all that Tollgate takes part in. front puts what is judged in front of
// another service.
func (s *protected) judge(t *testing.T, front func(t *testing.T, service string) string) {
	t.Run("decisions", s.decisions)
	t.Run("bodies", s.bodies)
	t.Run("forged headers", s.forgedHeaders)
	t.Run("hostile paths", s.hostilePaths)
	t.Run("largest identity", s.largestIdentity)
	t.Run("service in Python", func(t *testing.T) { s.inPython(t, front) })
	t.Run("changes", s.changes)
	t.Run("limits", s.limits)
}

const ordersHost = "orders.example.com"

func (s *protected) route(t *testing.T, name, path string, more object) {
	t.Helper()
	more["name"], more["path"], more["host"] = name, path, ordersHost
	s.Post(t, "/v1/routes", more)
}

// get asks for a path through the proxy.
func (s *protected) get(t *testing.T, path, token string) reply {
	t.Helper()
	return send(t, s.proxy, message("GET", path, ordersHost, bearer(token)))
}

// want fails the test when the status is another one, or the service got a request
// that was refused.
func (r reply) want(t *testing.T, what string, status int) {
	t.Helper()
	if r.status != status || (r.arrived != nil) != (status == http.StatusOK) {
		t.Errorf("%s: %d, want %d; the service got %v", what, r.status, status, r.arrived)
	}
}

func (s *protected) decisions(t *testing.T) {
	before := s.service.arrived.Load()
	allowed := s.get(t, "/orders/7?q=a%2Fb", s.reader)
	allowed.want(t, "a reader reads", http.StatusOK)
	if target := allowed.arrived.Target; target != "/orders/7?q=a%2Fb" {
		t.Errorf("the service got %s", target)
	}
	s.checkIdentity(t, "a reader reads", allowed.arrived)
	if claims := assertion(t, allowed.arrived); claims["sub"] != s.alice || claims["permission"] != "orders:read" || claims["aud"] != "orders" {
		t.Errorf("the assertion says %v", claims)
	}
	s.get(t, "/reports/7", s.reader).want(t, "what the proxy's own configuration says", http.StatusOK)

	for name, test := range map[string]struct {
		request string
		status  int
	}{
		"no credential":          {message("GET", "/orders/7", ordersHost), http.StatusUnauthorized},
		"a bad credential":       {message("GET", "/orders/7", ordersHost, bearer("garbage")), http.StatusUnauthorized},
		"two credentials":        {message("GET", "/orders/7", ordersHost, bearer(s.reader), "X-Api-Key: "+s.key), http.StatusUnauthorized},
		"a missing permission":   {message("POST", "/orders/7", ordersHost, bearer(s.reader), "Content-Length: 0"), http.StatusForbidden},
		"a path without route":   {message("GET", "/other", ordersHost, bearer(s.manager)), http.StatusForbidden},
		"a host without route":   {message("GET", "/orders/7", "other.example.com", bearer(s.manager)), http.StatusForbidden},
		"a method without one":   {message("DELETE", "/orders/7", ordersHost, bearer(s.manager)), http.StatusForbidden},
		"the location that asks": {message("GET", "/_tollgate", ordersHost, bearer(s.reader)), 0},
		"a fixed permission":     {message("GET", "/reports/7", ordersHost, bearer(s.manager)), http.StatusForbidden},
	} {
		a := send(t, s.proxy, test.request)
		switch {
		case test.status == 0 && a.status != http.StatusForbidden && a.status != http.StatusNotFound, test.status != 0 && a.status != test.status:
			t.Errorf("%s: %d, want %d", name, a.status, test.status)
		case (a.header.Get("WWW-Authenticate") != "") != (a.status == http.StatusUnauthorized):
			t.Errorf("%s: WWW-Authenticate: %q", name, a.header.Get("WWW-Authenticate"))
		}
	}
	if arrived := s.service.arrived.Load() - before; arrived != 2 {
		t.Errorf("the service got %d requests, want the 2 that were allowed", arrived)
	}
	for _, event := range s.Events(t, "action=access.denied&actor=alice") {
		if event["ip"] != clientIP {
			t.Errorf("the event has the address %s, not the client's", event["ip"])
		}
	}
}

// checkIdentity checks that the service got who alice is, once, from Tollgate.
func (s *protected) checkIdentity(t *testing.T, what string, got *received) {
	t.Helper()
	if len(got.all("Tollgate-Principal")) != 1 || len(got.all("Tollgate-Assertion")) != 1 {
		t.Errorf("%s: the service got no identity, or more than one: %q", what, got.Header)
		return
	}
	text, err := base64.RawURLEncoding.DecodeString(got.all("Tollgate-Principal")[0])
	backendtest.Must(t, err)
	var principal object
	backendtest.Must(t, json.Unmarshal(text, &principal))
	if principal["userId"] != s.alice || principal["username"] != "alice" || assertion(t, got)["sub"] != s.alice {
		t.Errorf("%s: the service got %v and %v", what, principal, assertion(t, got))
	}
}

// assertion reads what a request's assertion says, and does not verify it.
func assertion(t *testing.T, got *received) object {
	t.Helper()
	var claims object
	parts := strings.Split(strings.Join(got.all("Tollgate-Assertion"), ","), ".")
	if len(parts) != 3 {
		t.Fatalf("no assertion: %q", parts)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	backendtest.Must(t, err)
	backendtest.Must(t, json.Unmarshal(text, &claims))
	return claims
}

// bodies checks that Tollgate's part takes nothing of a body.
func (s *protected) bodies(t *testing.T) {
	for _, size := range []int{1, 300 << 10, 9 << 20} { // more than Tollgate takes, and than nginx does by default
		body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		for name, sent := range map[string]string{
			"with a length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, body),
			"in chunks":     fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, body),
		} {
			head, _ := strings.CutSuffix(message("POST", "/orders/7", ordersHost, bearer(s.manager)), "\r\n")
			a := send(t, s.proxy, head+sent)
			a.want(t, name, http.StatusOK)
			if a.arrived != nil && (sha256.Sum256(a.arrived.Body) != sha256.Sum256([]byte(body)) || a.arrived.Method != "POST") {
				t.Errorf("%d bytes %s: the service got %d bytes by %s", size, name, len(a.arrived.Body), a.arrived.Method)
			}
			if refused := send(t, s.proxy, strings.Replace(head, s.manager, s.reader, 1)+sent); refused.status == http.StatusOK {
				t.Errorf("%d bytes %s by a reader: %d", size, name, refused.status)
			}
		}
	}
}

// largestIdentity checks that the headers of somebody with as many roles as there
// can be fit.
func (s *protected) largestIdentity(t *testing.T) {
	const most = 100
	names := make([]string, most)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%02d", strings.Repeat("r", 61), i)
		s.Post(t, "/v1/roles", object{"name": names[i], "permissions": []string{"orders:read"}})
	}
	s.NewUser(t, "carol", "a password of carol", names...)
	a := s.get(t, "/orders/7", s.Login(t, "carol", "a password of carol").Str("accessToken"))
	a.want(t, "somebody with many roles", http.StatusOK)
	if a.arrived != nil && assertion(t, a.arrived)["username"] != "carol" {
		t.Errorf("the service got %.200q", a.arrived.Header)
	}
}

// inPython puts the example that trusts nothing but the assertion behind the proxy.
func (s *protected) inPython(t *testing.T, front func(t *testing.T, service string) string) {
	file, err := filepath.Abs("../sdk/examples/upstream/upstream.py")
	backendtest.Must(t, err)
	example := run(t, python, t.TempDir(), []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, "", "-B", file,
		"--issuer", "http://localhost:8000", "--jwks", s.URL+"/.well-known/jwks.json", "--audience", "orders",
		"--permission", "orders:read", "--listen", "127.0.0.1:0")
	address := front(t, strings.TrimPrefix(example.says(t, listening)[1], "http://"))
	ask := func(method, token string, lines ...string) (int, object) {
		var answer object
		a := send(t, address, message(method, "/orders/7", ordersHost, append(lines, bearer(token))...))
		json.Unmarshal(a.body, &answer) // a proxy's own refusal may be no JSON
		return a.status, answer
	}
	status, answer := ask("GET", s.reader, "Tollgate-Assertion: forged", "Tollgate_Assertion: forged")
	if status != http.StatusOK || apitest.Dig(answer, "assertion", "sub") != s.alice || apitest.Dig(answer, "assertion", "route") != "read" {
		t.Errorf("a reader reads: %d %v", status, answer)
	}
	// The proxy lets a manager write; the service is there for orders:read alone.
	if status, answer := ask("POST", s.manager, "Content-Length: 0"); status != http.StatusForbidden || answer["code"] != "permission_denied" {
		t.Errorf("a manager writes: %d %v", status, answer)
	}
	if status, _ := ask("GET", ""); status != http.StatusUnauthorized {
		t.Errorf("nobody reads: %d", status)
	}
}

// withinASecond waits until a request is refused as it should be.
func (s *protected) withinASecond(t *testing.T, what, token string, status int) {
	t.Helper()
	began := time.Now()
	apitest.Eventually(t, what, func() bool { return s.get(t, "/orders/7", token).status == status })
	if took := time.Since(began); took > time.Second {
		t.Errorf("%s: after %s, want within a second", what, took)
	}
}

func (s *protected) changes(t *testing.T) {
	session := s.Login(t, "alice", "a password of alice").Str("accessToken")
	s.get(t, "/orders/7", session).want(t, "before", http.StatusOK)
	s.As(session).Post(t, "/v1/auth/logout", object{})
	s.withinASecond(t, "a revoked token is refused", session, http.StatusUnauthorized)

	s.Patch(t, "/v1/roles/reader", object{"permissions": []string{"reports:read"}})
	s.withinASecond(t, "a changed role is in force", s.reader, http.StatusForbidden)
	s.Patch(t, "/v1/roles/reader", object{"permissions": []string{"orders:read", "reports:read"}})
	s.withinASecond(t, "and back again", s.reader, http.StatusOK)

	s.Patch(t, "/v1/routes/read", object{"permission": "orders:list"})
	s.withinASecond(t, "a changed route is in force", s.reader, http.StatusForbidden)
	s.Patch(t, "/v1/routes/read", object{"permission": "orders:read"})
	s.withinASecond(t, "and back again", s.reader, http.StatusOK)
}

func (s *protected) limits(t *testing.T) {
	s.Post(t, "/v1/limits", object{"name": "orders", "subject": "SUBJECT_USER", "permission": "orders:read", "rate": 2, "period": "60s"})
	var limited reply
	apitest.Eventually(t, "the limit is used up", func() bool {
		limited = s.get(t, "/orders/7", s.reader)
		return limited.status != http.StatusOK
	})
	limited.want(t, "over the limit", http.StatusTooManyRequests)
	if seconds, err := strconv.Atoi(limited.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After: %q", limited.header.Get("Retry-After"))
	}
	if limited.header.Get("RateLimit") == "" || limited.header.Get("RateLimit-Policy") == "" {
		t.Errorf("no RateLimit fields: %v", limited.header)
	}
	s.Call(t, "DELETE", "/v1/limits/orders", nil).Want(t, http.StatusOK)
}

// withoutTollgate comes last.
func (s *protected) withoutTollgate(t *testing.T) {
	s.signal(t, syscall.SIGSTOP)
	apitest.Eventually(t, "a Tollgate that does not answer gets 503", func() bool { // the signal takes its time
		return s.get(t, "/orders/7", s.reader).status == http.StatusServiceUnavailable
	})
	s.kill(t)
	for _, path := range []string{"/orders/7", "/reports/7", "/"} {
		for _, token := range []string{s.reader, ""} {
			a := s.get(t, path, token)
			a.want(t, path, http.StatusServiceUnavailable)
			if a.header.Get("Retry-After") == "" {
				t.Errorf("%s: 503 without Retry-After", path)
			}
		}
	}
}

func port(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(err)
	}
	return port
}
