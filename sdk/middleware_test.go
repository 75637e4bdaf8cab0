package tollgate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
	"google.golang.org/protobuf/types/known/durationpb"
)

// protect returns a handler behind Require, and whether a request got to it.
func protect(c *tollgate.Client, edit ...func(*http.Request, *tollgate.AuthorizeRequest)) (h http.Handler, passed *bool) {
	passed = new(bool)
	return c.Require("orders:read", edit...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*passed = true
		fmt.Fprint(w, tollgate.FromContext(r.Context()).Username)
	})), passed
}

func request(authorization ...string) *http.Request {
	r := httptest.NewRequest("GET", "/orders/42", nil)
	r.RemoteAddr = "192.0.2.7:4711"
	for _, value := range authorization {
		r.Header.Add("Authorization", value)
	}
	return r
}

func answer(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestRequireRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			h, passed := protect(deciding(t, test.decision).client(t))
			res := answer(h, request("Bearer alice.token"))
			if *passed {
				t.Fatal("the request got to the handler")
			}
			if res.StatusCode != test.status {
				t.Errorf("status %d, want %d", res.StatusCode, test.status)
			}
			wantHeader(t, res.Header, "WWW-Authenticate", test.challenge)
			wantHeader(t, res.Header, "Retry-After", test.retryAfter)
			wantHeader(t, res.Header, "Content-Type", "application/json")
			if test.status == 429 {
				wantHeader(t, res.Header, "RateLimit", `"per-user";r=0;t=60`)
				wantHeader(t, res.Header, "RateLimit-Policy", `"per-user";q=10`)
			}
			var body struct{ Code, Message string }
			must(t, json.NewDecoder(res.Body).Decode(&body))
			if body.Code != test.code.String() || body.Message == "" {
				t.Errorf("body %+v, want the code %s and a message", body, test.code)
			}
		})
	}
}

func TestRequireFailsClosed(t *testing.T) {
	t.Parallel()
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			wantUnavailable(t, failing(t, outage.err).client(t), outage.retryAfter)
		})
	}
	t.Run("an answer without a principal", func(t *testing.T) {
		wantUnavailable(t, deciding(t, &tollgatev1.AuthorizeResponse{Allowed: true}).client(t), "1")
	})
	t.Run("no listener", func(t *testing.T) {
		server := httptest.NewServer(nil)
		server.Close()
		wantUnavailable(t, newClient(t, server.URL), "1")
	})
	t.Run("no answer in time", func(t *testing.T) {
		wantUnavailable(t, newClient(t, unanswered(t), tollgate.WithTimeout(20*time.Millisecond)), "1")
	})
}

func wantUnavailable(t *testing.T, c *tollgate.Client, retryAfter string) {
	t.Helper()
	h, passed := protect(c)
	res := answer(h, request("Bearer alice.token"))
	if *passed || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("passed %v, status %d; want a 503", *passed, res.StatusCode)
	}
	wantHeader(t, res.Header, "Retry-After", retryAfter)
	wantHeader(t, res.Header, "WWW-Authenticate", "")
}

func TestRequireLogsTheCause(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := failing(t, outages["own API key revoked"].err)
	h, _ := protect(f.client(t, tollgate.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))))
	answer(h, request("Bearer alice.token"))
	if !strings.Contains(log.String(), "unauthenticated") {
		t.Errorf("the log does not say why: %s", &log)
	}
	if strings.Contains(log.String(), "alice.token") || strings.Contains(log.String(), sdktest.ServiceKey) {
		t.Errorf("a credential is in the log: %s", &log)
	}

	log.Reset()
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	answer(h, request("Bearer alice.token").WithContext(gone))
	if log.Len() > 0 {
		t.Errorf("a caller who hung up is in the log: %s", &log)
	}
}

func TestRequirePasses(t *testing.T) {
	t.Parallel()
	res := allowed()
	res.Limits = []*tollgatev1.LimitStatus{{Name: "per-user", Limit: 10, Remaining: 9, Reset_: durationpb.New(6 * time.Second)}}
	h, passed := protect(deciding(t, res).client(t))
	got := answer(h, request("Bearer alice.token"))
	if !*passed || got.StatusCode != 200 {
		t.Fatalf("passed %v, status %d", *passed, got.StatusCode)
	}
	wantHeader(t, got.Header, "RateLimit", `"per-user";r=9;t=6`)
	wantHeader(t, got.Header, "RateLimit-Policy", `"per-user";q=10`)
	var name bytes.Buffer
	_, _ = name.ReadFrom(got.Body)
	if name.String() != "alice" {
		t.Errorf("the handler found %q", &name)
	}
}

func TestRequireCredential(t *testing.T) {
	t.Parallel()

	for _, test := range []struct {
		name          string
		authorization []string
		challenge     string // of the refusal; empty: it passes
	}{
		{"none", nil, noToken},
		{"another scheme", []string{"Basic YWxpY2U6cGFzcw=="}, noToken},
		{"nothing at all", []string{""}, noToken},
		{"a token", []string{"Bearer alice.token"}, ""},
		{"another case", []string{"bEARER alice.token"}, ""},
		{"spaces", []string{"Bearer   alice.token "}, ""},
		{"two headers", []string{"Bearer alice.token", "Bearer alice.token"}, badToken},
		{"two schemes", []string{"Basic YWxpY2U6cGFzcw==", "Bearer alice.token"}, badToken},
		{"two in one", []string{"Bearer alice.token, Bearer alice.token"}, badToken},
		{"two tokens", []string{"Bearer alice.token bob.token"}, badToken},
		{"no token", []string{"Bearer"}, badToken},
		{"only spaces", []string{"Bearer   "}, badToken},
		{"only padding", []string{"Bearer =="}, badToken},
		{"padding inside", []string{"Bearer alice=token"}, badToken},
		{"not ASCII", []string{"Bearer ali\xffce"}, badToken},
		{"a tab", []string{"Bearer\talice.token"}, noToken}, // the scheme is not "Bearer"
		{"too long", []string{"Bearer " + strings.Repeat("a", 8193)}, badToken},
		{"a key too long", []string{"Bearer tg_" + strings.Repeat("a", 254)}, badToken},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFixture(t, answering(func(req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
				if req.GetAccessToken() == "alice.token" {
					return allowed(), nil
				}
				return refused(tollgatev1.Reason_REASON_CREDENTIAL_MISSING), nil
			}))
			h, passed := protect(f.client(t))
			res := answer(h, request(test.authorization...))
			if *passed != (test.challenge == "") {
				t.Errorf("passed %v", *passed)
			}
			if test.challenge != "" && res.StatusCode != http.StatusUnauthorized {
				t.Errorf("status %d, want 401", res.StatusCode)
			}
			wantHeader(t, res.Header, "WWW-Authenticate", test.challenge)
			// Bad credentials count against their address, too.
			if asked := f.asked(t); asked.GetClient().GetIp() != "192.0.2.7" {
				t.Errorf("asked about %v", asked)
			}
		})
	}
}

// TestRequireMalformedCredential: no answer allows a credential that was not sent.
func TestRequireMalformedCredential(t *testing.T) {
	t.Parallel()
	h, passed := protect(deciding(t, allowed()).client(t))
	res := answer(h, request("Bearer alice.token", "Bearer bob.token"))
	if *passed || res.StatusCode == 200 {
		t.Errorf("passed %v, status %d", *passed, res.StatusCode)
	}
}

func TestRequireRequest(t *testing.T) {
	t.Parallel()
	f := deciding(t, allowed())
	h, _ := protect(f.client(t))
	r := request("Bearer tg_alice")
	r.Header.Set("User-Agent", strings.Repeat("é", 300)+"\xff")
	r.Header.Set("X-Request-Id", "req-1")
	r.URL.Path = "/" + strings.Repeat("a", 254) + "é"
	answer(h, r)

	got := f.asked(t)
	if got.GetApiKey() != "tg_alice" || got.GetPermission() != "orders:read" {
		t.Errorf("asked %v", got)
	}
	if got.GetResource() != "/"+strings.Repeat("a", 254) {
		t.Errorf("resource %q is not cut between characters", got.GetResource())
	}
	client := got.GetClient()
	if client.GetIp() != "192.0.2.7" || client.GetUserAgent() != strings.Repeat("é", 256) || client.GetRequestId() != "req-1" {
		t.Errorf("client %v", client)
	}
	if f.authorization[0] != "Bearer "+sdktest.ServiceKey {
		t.Errorf("the service presented %q", f.authorization[0])
	}
}

func TestRequireEdit(t *testing.T) {
	t.Parallel()
	f := deciding(t, allowed())
	h, _ := protect(f.client(t), func(r *http.Request, q *tollgate.AuthorizeRequest) {
		q.Resource = strings.TrimPrefix(r.URL.Path, "/")
		q.Context = map[string]string{"tenant": "acme"}
		q.Cost = 5
	})
	answer(h, request("Bearer alice.token"))
	got := f.asked(t)
	if got.GetResource() != "orders/42" || got.GetContext()["tenant"] != "acme" || got.GetCost() != 5 {
		t.Errorf("asked %v", got)
	}
}

func TestClientIP(t *testing.T) {
	t.Parallel()
	lastHop := tollgate.WithClientIP(func(remote netip.Addr, header http.Header) netip.Addr {
		hops := strings.Split(header.Get("X-Forwarded-For"), ",")
		if addr, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1])); err == nil && remote.IsLoopback() {
			return addr
		}
		return remote
	})
	for _, test := range []struct {
		name, remote, forwarded, want string
		opts                          []tollgate.Option
	}{
		{"peer", "192.0.2.7:4711", "203.0.113.9", "192.0.2.7", nil},
		{"mapped", "[::ffff:192.0.2.7]:4711", "", "192.0.2.7", nil},
		{"zone", "[fe80::1%eth0]:4711", "", "fe80::1", nil},
		{"a Unix socket", "@", "", "", nil},
		{"behind a proxy", "127.0.0.1:4711", "6.6.6.6, 203.0.113.9", "203.0.113.9", []tollgate.Option{lastHop}},
		{"past the proxy", "192.0.2.7:4711", "6.6.6.6", "192.0.2.7", []tollgate.Option{lastHop}},
		{"mapped by a proxy", "127.0.0.1:4711", "::ffff:203.0.113.9", "203.0.113.9", []tollgate.Option{lastHop}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := deciding(t, allowed())
			h, _ := protect(f.client(t, test.opts...))
			r := request("Bearer alice.token")
			r.RemoteAddr = test.remote
			r.Header.Set("X-Forwarded-For", test.forwarded)
			answer(h, r)
			if got := f.asked(t).GetClient().GetIp(); got != test.want {
				t.Errorf("IP %q, want %q", got, test.want)
			}
		})
	}
}

// TestRequireContentType: a refusal in the form of gRPC would be a 200.
func TestRequireContentType(t *testing.T) {
	t.Parallel()
	h, _ := protect(deciding(t, refused(tollgatev1.Reason_REASON_PERMISSION_MISSING)).client(t))
	for _, contentType := range []string{"application/grpc", "application/grpc-web", "application/connect+json"} {
		r := httptest.NewRequest("POST", "/orders", nil)
		r.Header.Set("Content-Type", contentType)
		if res := answer(h, r); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: status %d, want 403", contentType, res.StatusCode)
		}
	}
}

func TestRequireWithoutPermissionPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	deciding(t, allowed()).client(t).Require("")
}

// TestRequireConcurrently: each request gets its own principal.
func TestRequireConcurrently(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	h := f.client(t).Require("orders:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, tollgate.FromContext(r.Context()).Username)
	}))
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			name := fmt.Sprintf("user-%d", i)
			f.SetUser(sdktest.User{Name: name, Roles: []string{"clerk"}})
			for range 10 {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, request("Bearer "+f.Token(name)))
				if w.Body.String() != name {
					t.Errorf("%s became %q", name, w.Body)
				}
			}
		})
	}
	all.Wait()
}
