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
	"google.golang.org/protobuf/types/known/durationpb"
)

// door is a handler behind the middleware; through says whether a request got
// to it.
func door(c *tollgate.Client, edit ...func(*http.Request, *tollgate.AuthorizeRequest)) (h http.Handler, through *bool) {
	through = new(bool)
	return c.Require("orders:read", edit...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*through = true
		fmt.Fprint(w, tollgate.FromContext(r.Context()).Username)
	})), through
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
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			h, through := door(decided(test.decision).start(t))
			res := answer(h, request("Bearer alice.token"))
			if *through {
				t.Fatal("the request got through")
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
			if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
				t.Fatal(err)
			}
			if body.Code != test.code.String() || body.Message == "" {
				t.Errorf("body %+v, want the code %s and a message", body, test.code)
			}
		})
	}
}

func wantHeader(t *testing.T, h http.Header, name, want string) {
	t.Helper()
	if got := strings.Join(h.Values(name), " | "); got != want {
		t.Errorf("%s: %q, want %q", name, got, want)
	}
}

func TestRequireFailsClosed(t *testing.T) {
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			f := &fake{authorize: func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
				return nil, outage.err
			}}
			wantUnavailable(t, f.start(t), outage.retryAfter)
		})
	}
	t.Run("an answer without a principal", func(t *testing.T) {
		wantUnavailable(t, decided(&tollgatev1.AuthorizeResponse{Allowed: true}).start(t), "1")
	})
	t.Run("nobody listens", func(t *testing.T) {
		server := httptest.NewServer(nil)
		server.Close()
		wantUnavailable(t, newClient(t, server.URL), "1")
	})
	t.Run("no answer in time", func(t *testing.T) {
		wantUnavailable(t, newClient(t, silent(t), tollgate.WithTimeout(20*time.Millisecond)), "1")
	})
}

func wantUnavailable(t *testing.T, c *tollgate.Client, retryAfter string) {
	t.Helper()
	h, through := door(c)
	res := answer(h, request("Bearer alice.token"))
	if *through || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("through %v, status %d; want a 503", *through, res.StatusCode)
	}
	wantHeader(t, res.Header, "Retry-After", retryAfter)
	wantHeader(t, res.Header, "WWW-Authenticate", "")
}

func TestRequireLogsWhatTheCallerIsNotTold(t *testing.T) {
	var log bytes.Buffer
	f := &fake{authorize: func(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
		return nil, outages["our key was revoked"].err
	}}
	h, _ := door(f.start(t, tollgate.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))))
	answer(h, request("Bearer alice.token"))
	if !strings.Contains(log.String(), "unauthenticated") {
		t.Errorf("the log does not say why: %s", &log)
	}
	if strings.Contains(log.String(), "alice.token") || strings.Contains(log.String(), serviceKey) {
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

func TestRequireLetsPass(t *testing.T) {
	res := allowed()
	res.Limits = []*tollgatev1.LimitStatus{{Name: "per-user", Limit: 10, Remaining: 9, Reset_: durationpb.New(6 * time.Second)}}
	h, through := door(decided(res).start(t))
	got := answer(h, request("Bearer alice.token"))
	if !*through || got.StatusCode != 200 {
		t.Fatalf("through %v, status %d", *through, got.StatusCode)
	}
	wantHeader(t, got.Header, "RateLimit", `"per-user";r=9;t=6`)
	wantHeader(t, got.Header, "RateLimit-Policy", `"per-user";q=10`)
	var name bytes.Buffer
	_, _ = name.ReadFrom(got.Body)
	if name.String() != "alice" {
		t.Errorf("the handler found %q", &name)
	}
}

func TestRequireReadsOneBearer(t *testing.T) {
	const missing, bad = `Bearer`, `Bearer error="invalid_token"`
	for _, test := range []struct {
		name          string
		authorization []string
		challenge     string // of the refusal; empty: it is asked about
	}{
		{"none", nil, missing},
		{"another scheme", []string{"Basic YWxpY2U6cGFzcw=="}, missing},
		{"nothing at all", []string{""}, missing},
		{"a token", []string{"Bearer alice.token"}, ""},
		{"another case", []string{"bEARER alice.token"}, ""},
		{"spaces", []string{"Bearer   alice.token "}, ""},
		{"two headers", []string{"Bearer alice.token", "Bearer alice.token"}, bad},
		{"two schemes", []string{"Basic YWxpY2U6cGFzcw==", "Bearer alice.token"}, bad},
		{"two in one", []string{"Bearer alice.token, Bearer alice.token"}, bad},
		{"two tokens", []string{"Bearer alice.token bob.token"}, bad},
		{"no token", []string{"Bearer"}, bad},
		{"only spaces", []string{"Bearer   "}, bad},
		{"only padding", []string{"Bearer =="}, bad},
		{"padding inside", []string{"Bearer alice=token"}, bad},
		{"not ASCII", []string{"Bearer ali\xffce"}, bad},
		{"a tab", []string{"Bearer\talice.token"}, missing}, // the scheme is not "Bearer"
		{"too long", []string{"Bearer " + strings.Repeat("a", 8193)}, bad},
		{"a key too long", []string{"Bearer tg_" + strings.Repeat("a", 254)}, bad},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &fake{authorize: func(req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
				if req.GetAccessToken() == "alice.token" {
					return allowed(), nil
				}
				return refused(tollgatev1.Reason_REASON_CREDENTIAL_MISSING), nil
			}}
			h, through := door(f.start(t))
			res := answer(h, request(test.authorization...))
			if *through != (test.challenge == "") {
				t.Errorf("through %v", *through)
			}
			if test.challenge != "" && res.StatusCode != http.StatusUnauthorized {
				t.Errorf("status %d, want 401", res.StatusCode)
			}
			wantHeader(t, res.Header, "WWW-Authenticate", test.challenge)
			// Bad credentials count against their address too.
			if asked := f.asked(t); asked.GetClient().GetIp() != "192.0.2.7" {
				t.Errorf("asked about %v", asked)
			}
		})
	}
}

// A Tollgate that lets everybody in must not let a credential in that it was
// never shown.
func TestRequireRefusesMalformedWhateverTheAnswer(t *testing.T) {
	h, through := door(decided(allowed()).start(t))
	res := answer(h, request("Bearer alice.token", "Bearer bob.token"))
	if *through || res.StatusCode == 200 {
		t.Errorf("through %v, status %d", *through, res.StatusCode)
	}
}

func TestRequireAsks(t *testing.T) {
	f := decided(allowed())
	h, _ := door(f.start(t))
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
	if f.authorization[0] != "Bearer "+serviceKey {
		t.Errorf("the service presented %q", f.authorization[0])
	}
}

func TestRequireEdit(t *testing.T) {
	f := decided(allowed())
	h, _ := door(f.start(t), func(r *http.Request, q *tollgate.AuthorizeRequest) {
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
		{"a socket in the file system", "@", "", "", nil},
		{"behind a proxy", "127.0.0.1:4711", "6.6.6.6, 203.0.113.9", "203.0.113.9", []tollgate.Option{lastHop}},
		{"past the proxy", "192.0.2.7:4711", "6.6.6.6", "192.0.2.7", []tollgate.Option{lastHop}},
		{"mapped by a proxy", "127.0.0.1:4711", "::ffff:203.0.113.9", "203.0.113.9", []tollgate.Option{lastHop}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := decided(allowed())
			h, _ := door(f.start(t, test.opts...))
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

// A caller that claims to speak gRPC to a plain handler must see a refusal as
// one: gRPC's would be a 200.
func TestRequireRefusesInPlainHTTP(t *testing.T) {
	h, _ := door(decided(refused(tollgatev1.Reason_REASON_PERMISSION_MISSING)).start(t))
	for _, contentType := range []string{"application/grpc", "application/grpc-web", "application/connect+json"} {
		r := httptest.NewRequest("POST", "/orders", nil)
		r.Header.Set("Content-Type", contentType)
		if res := answer(h, r); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: status %d, want 403", contentType, res.StatusCode)
		}
	}
}

func TestRequireWithoutPermissionPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	decided(allowed()).start(t).Require("")
}

// Each request gets its own principal, however many there are at once.
func TestRequireConcurrently(t *testing.T) {
	f := &fake{authorize: func(req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
		res := allowed()
		res.Principal = &tollgatev1.Principal{UserId: req.GetAccessToken(), Username: req.GetAccessToken()}
		return res, nil
	}}
	c := f.start(t)
	h := c.Require("orders:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, tollgate.FromContext(r.Context()).Username)
	}))
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			name := fmt.Sprintf("user-%d", i)
			for range 10 {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, request("Bearer "+name))
				if w.Body.String() != name {
					t.Errorf("%s became %q", name, w.Body)
				}
			}
		})
	}
	all.Wait()
}
