package app

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// browser keeps the console's cookie as a browser does.
type browser struct {
	apitest.Client

	cookie *http.Cookie
}

func (b *browser) post(t *testing.T, path string, body any, header ...string) apitest.Answer {
	t.Helper()
	header = append([]string{"Sec-Fetch-Site", "same-origin"}, header...)
	if b.cookie != nil {
		header = append(header, "Cookie", b.cookie.Name+"="+b.cookie.Value)
	}
	a := b.Call(t, "POST", "/console/session/"+path, body, header...)
	for _, c := range (&http.Response{Header: a.Header}).Cookies() {
		if b.cookie = c; c.MaxAge < 0 {
			b.cookie = nil
		}
	}
	if strings.Contains(string(a.Raw), "tgr_") || strings.Contains(string(a.Raw), "refreshToken") {
		t.Errorf("%s shows the refresh token: %s", path, a.Raw)
	}
	return a
}

func (i *instance) browse(t *testing.T, name, password string) *browser {
	t.Helper()
	b := &browser{Client: i.Client}
	b.post(t, "login", apitest.Object{"username": name, "password": password}).Want(t, http.StatusOK)
	return b
}

// TestConsoleSession: sign in, be signed in after a reload, sign out.
func TestConsoleSession(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		b := i.browse(t, FirstAdmin, adminPassword)
		if c := b.cookie; c == nil || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/console/session" || c.Domain != "" || c.Secure {
			t.Fatalf("cookie %v", c)
		}
		first := *b.cookie
		refreshed := b.post(t, "refresh", nil).Want(t, http.StatusOK)
		i.As(refreshed.Str("accessToken")).Get(t, "/v1/auth/whoami")
		if b.cookie.Value == first.Value || refreshed.Str("sessionId") == "" {
			t.Errorf("refreshed %s, cookie %v", refreshed.Raw, b.cookie)
		}
		last := *b.cookie
		b.post(t, "logout", nil).Want(t, http.StatusOK)
		if b.cookie != nil {
			t.Errorf("the cookie is still there: %v", b.cookie)
		}
		i.As(refreshed.Str("accessToken")).Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
		b.cookie = &last
		if a := b.post(t, "refresh", nil).Want(t, http.StatusUnauthorized); a.Reason() != "BAD_REFRESH_TOKEN" || b.cookie != nil {
			t.Errorf("after signing out: %s, cookie %v", a.Raw, b.cookie)
		}
		b.post(t, "logout", nil).Want(t, http.StatusOK) // again is no error

		// With an access token it is the RPC, which may end the user's other sessions; one
		// that has ended is none.
		other := i.SignedIn(t, FirstAdmin, adminPassword)
		b = i.browse(t, FirstAdmin, adminPassword)
		bearer := []string{"Authorization", "Bearer " + b.post(t, "refresh", apitest.Object{}).Str("accessToken")}
		last = *b.cookie
		if a := b.post(t, "logout", apitest.Object{}, bearer...).Want(t, http.StatusOK); a.At("revokedSessions") != 1.0 || b.cookie != nil {
			t.Errorf("with a token: %s", a.Raw)
		}
		b.cookie = &last
		b.post(t, "logout", apitest.Object{}, bearer...).Want(t, http.StatusOK)
		other.Get(t, "/v1/auth/whoami")

		found := i.As(other.Token).Events(t, "action=session.revoke")
		if len(found) != 1 || apitest.Dig(found[0], "actor", "userId") != i.user || found[0]["ip"] != "127.0.0.1" {
			t.Errorf("on record: %v", found)
		}
	})
}

// TestConsoleSessionErrors: the console is told what the API tells, and what fails there
// is counted and on record as it is there.
func TestConsoleSessionErrors(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	b := &browser{Client: i.Client}
	good := apitest.Object{"username": FirstAdmin, "password": adminPassword}
	wrong := apitest.Object{"username": FirstAdmin, "password": "wrong"}
	for _, c := range []struct {
		name, path string
		body       any
		header     []string
		status     int
		reason     string
	}{
		{"a wrong password", "login", wrong, nil, http.StatusUnauthorized, "BAD_CREDENTIALS"},
		{"no name", "login", apitest.Object{}, nil, http.StatusBadRequest, "INVALID_FIELD"},
		{"no body", "login", nil, nil, http.StatusBadRequest, "INVALID_FIELD"},
		{"a field that there is not", "login", apitest.Object{"user": "x"}, nil, http.StatusBadRequest, "BAD_REQUEST"},
		{"no JSON", "login", "{", nil, http.StatusBadRequest, "BAD_REQUEST"},
		{"a form", "login", "username=a&password=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE"},
		{"a text", "login", good, []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE"},
		{"no type", "login", good, []string{"Content-Type", ""}, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE"},
		{"gRPC", "login", good, []string{"Content-Type", "application/grpc"}, http.StatusUnsupportedMediaType, ""},
		{"a large body", "login", apitest.Object{"username": strings.Repeat("x", 300<<10)}, nil, http.StatusRequestEntityTooLarge, "TOO_LARGE"},
		{"a token to refresh", "refresh", apitest.Object{"refreshToken": "tgr_x"}, nil, http.StatusBadRequest, "BAD_REQUEST"},
		{"a form to logout", "logout", "x=y", []string{"Content-Type", "text/plain"}, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE"},
		{"nobody's refresh", "refresh", nil, nil, http.StatusUnauthorized, "BAD_REFRESH_TOKEN"},
	} {
		a := b.post(t, c.path, c.body, c.header...)
		if a.Status != c.status || a.Reason() != c.reason {
			t.Errorf("%s: %d %s", c.name, a.Status, a.Raw)
		}
		if b.cookie != nil {
			t.Errorf("%s: a cookie", c.name)
		}
	}

	for n := 0; ; n++ {
		a := b.post(t, "login", wrong)
		if a.Status == http.StatusUnauthorized && n < 50 {
			continue
		}
		if a.Status != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" || a.Detail("google.rpc.RetryInfo") == nil {
			t.Errorf("after %d wrong passwords: %d %s", n, a.Status, a.Raw)
		}
		break
	}
	failed := i.As(i.admin).Events(t, "action=auth.login&outcome=OUTCOME_FAILURE")
	if len(failed) == 0 || failed[0]["reason"] != "wrong_password" || failed[0]["ip"] != "127.0.0.1" || failed[0]["requestId"] == "" {
		t.Errorf("on record: %v", failed)
	}

	// Rubbish is refused, forgotten, and counted.
	b.cookie = &http.Cookie{Name: "tollgate-" + portOf(i.URL), Value: "rubbish"}
	rubbish := *b.cookie
	for n := 0; ; n++ {
		b.cookie = &rubbish
		a := b.post(t, "refresh", nil)
		if a.Status == http.StatusTooManyRequests {
			if b.cookie == nil {
				t.Error("a cookie that was not looked at is gone")
			}
			break
		}
		if a.Status != http.StatusUnauthorized || b.cookie != nil || n > 5000 {
			t.Fatalf("rubbish: %d %s, cookie %v", a.Status, a.Raw, b.cookie)
		}
	}
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// TestConsoleSecondFactor: a person who has one is asked for a code, and the code counts.
func TestConsoleSecondFactor(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	at := "/v1/users/" + i.user + "/second-factor"
	made := i.As(i.admin).Post(t, at, apitest.Object{"currentPassword": adminPassword})
	code, err := totp.GenerateCode(made.Str("secret"), time.Now())
	backendtest.Must(t, err)
	i.As(i.admin).Post(t, at+"/confirm", apitest.Object{"code": code})
	recovery, _ := made.Body["recoveryCodes"].([]any)
	b := &browser{Client: i.Client}
	in := apitest.Object{"username": FirstAdmin, "password": adminPassword}
	if a := b.post(t, "login", in).Want(t, http.StatusUnauthorized); a.Reason() != "SECOND_FACTOR_REQUIRED" || b.cookie != nil {
		t.Errorf("without a code: %s", a.Raw)
	}
	in["secondFactor"] = recovery[0]
	b.post(t, "login", in).Want(t, http.StatusOK)
	if b.cookie == nil {
		t.Error("no cookie")
	}
}

// TestConsoleCrossSite: no other site's page can do anything here with the cookie, nor
// sign anybody in.
func TestConsoleCrossSite(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	b := i.browse(t, FirstAdmin, adminPassword)
	cookie := *b.cookie
	for _, sites := range [][]string{{"cross-site"}, {"same-site"}, {"none"}, {""}, {"Same-Origin"}, {"same-origin", "same-origin"}, {"same-origin, cross-site"}, nil} {
		for path, body := range map[string]any{"login": apitest.Object{"username": FirstAdmin, "password": adminPassword}, "refresh": nil, "logout": nil} {
			header := []string{"Cookie", cookie.Name + "=" + cookie.Value}
			for _, site := range sites {
				header = append(header, "Sec-Fetch-Site", site)
			}
			a := i.Call(t, "POST", "/console/session/"+path, body, header...)
			if a.Status != http.StatusForbidden || a.Reason() != "CROSS_SITE" || a.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s from %q: %d %s", path, sites, a.Status, a.Raw)
			}
		}
	}
	b.post(t, "refresh", nil).Want(t, http.StatusOK) // nothing was spent
}

// TestConsoleLostAnswer: who reloads a page while it refreshes stays signed in; a copy of
// the cookie does not last.
func TestConsoleLostAnswer(t *testing.T) {
	t.Parallel()
	clk, fake := fakeClock(time.Now())
	i := start(t, testConfig(backendtest.SQLiteURL(t)), clk)
	for name, test := range map[string]func(t *testing.T, b *browser){
		"a lost answer": func(t *testing.T, b *browser) {
			sent := *b.cookie
			b.post(t, "refresh", nil).Want(t, http.StatusOK)
			b.cookie = &sent
			b.post(t, "refresh", nil).Want(t, http.StatusOK)
			b.post(t, "refresh", nil).Want(t, http.StatusOK)
		},
		"too late": func(t *testing.T, b *browser) {
			sent := *b.cookie
			b.post(t, "refresh", nil).Want(t, http.StatusOK)
			fake.Advance(11 * time.Second)
			newest := *b.cookie
			b.cookie = &sent
			if a := b.post(t, "refresh", nil).Want(t, http.StatusUnauthorized); a.Reason() != "REFRESH_TOKEN_REUSED" {
				t.Errorf("too late: %s", a.Raw)
			}
			b.cookie = &newest
			b.post(t, "refresh", nil).Want(t, http.StatusUnauthorized)
		},
		"a thief": func(t *testing.T, b *browser) {
			stolen := *b.cookie
			b.post(t, "refresh", nil).Want(t, http.StatusOK)
			thief := &browser{Client: b.Client, cookie: &stolen}
			thief.post(t, "refresh", nil).Want(t, http.StatusOK)
			if a := b.post(t, "refresh", nil).Want(t, http.StatusUnauthorized); a.Reason() != "REFRESH_TOKEN_REUSED" {
				t.Errorf("its owner: %s", a.Raw)
			}
			thief.post(t, "refresh", nil).Want(t, http.StatusUnauthorized)
		},
		"a token of the API": func(t *testing.T, b *browser) {
			login := i.Login(t, FirstAdmin, adminPassword)
			b.cookie.Value = login.Str("refreshToken") + ".mark"
			spent := *b.cookie
			b.post(t, "refresh", nil).Want(t, http.StatusOK)
			b.cookie = &spent
			if a := b.post(t, "refresh", nil).Want(t, http.StatusUnauthorized); a.Reason() != "REFRESH_TOKEN_REUSED" {
				t.Errorf("again: %s", a.Raw)
			}
		},
		"at the API": func(t *testing.T, b *browser) {
			token, _, _ := strings.Cut(b.cookie.Value, ".")
			b.post(t, "refresh", nil).Want(t, http.StatusOK)
			if a := i.Call(t, "POST", "/v1/auth/refresh", apitest.Object{"refreshToken": token}).Want(t, http.StatusUnauthorized); a.Reason() != "REFRESH_TOKEN_REUSED" {
				t.Errorf("at the API: %s", a.Raw)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, i.browse(t, FirstAdmin, adminPassword)) })
	}
}

// TestConsoleHeaders: whatever is answered under /console, browsers are told what the
// console may do.
func TestConsoleHeaders(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	for _, c := range [][3]string{
		{"GET", "/console", ""}, {"GET", "/console/", ""}, {"GET", "/console/users", ""}, {"HEAD", "/console/", ""}, {"GET", "/console/assets/none.js", ""},
		{"POST", "/console/", ""}, {"GET", "/console/session/login", ""}, {"POST", "/console/session/refresh", ""}, {"POST", "/console/session/login", "application/grpc"},
		{"POST", "/console/session/login", "application/json"}, {"GET", "/console/../v1/users", ""}, {"GET", "/console//x", ""},
	} {
		a := i.Call(t, c[0], c[1], nil, "Content-Type", c[2])
		if strings.Contains(c[1], "..") || strings.Contains(c[1], "//") {
			a.Want(t, http.StatusNotFound) // no redirect
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := a.Header.Values(name); !slices.Equal(got, []string{want}) {
				t.Errorf("%v: %s is %q", c, name, got)
			}
		}
		policy := a.Header.Values("Content-Security-Policy")
		if len(policy) != 1 || strings.Contains(policy[0], "unsafe") || strings.Contains(policy[0], "*") || strings.Contains(policy[0], "http") {
			t.Errorf("%v: policy %q", c, policy)
			continue
		}
		for _, directive := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'",
			"frame-ancestors 'none'", "require-trusted-types-for 'script'",
		} {
			if !slices.Contains(strings.Split(policy[0], "; "), directive) {
				t.Errorf("%v: the policy has no %s", c, directive)
			}
		}
		if !strings.Contains(a.Header.Get("Permissions-Policy"), "camera=()") {
			t.Errorf("%v: Permissions-Policy %q", c, a.Header.Get("Permissions-Policy"))
		}
	}
	if a := i.Call(t, "GET", "/v1/users", nil); a.Header.Get("Content-Security-Policy") != "default-src 'none'; frame-ancestors 'none'" {
		t.Errorf("the API: %v", a.Header)
	}
}

// TestConsoleOff: the console is served where only this machine can reach it, or where
// it was asked for.
func TestConsoleOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		listen  string
		console *bool
		served  bool
	}{
		"loopback": {"127.0.0.1:0", nil, true}, "localhost": {"localhost:0", nil, true}, "IPv6": {"[::1]:0", nil, true},
		"everywhere": {"0.0.0.0:0", nil, false}, "no host": {":0", nil, false}, "asked for": {"0.0.0.0:0", new(true), true}, "turned off": {"127.0.0.1:0", new(false), false},
	} {
		config := testConfig(backendtest.SQLiteURL(t))
		config.Listen, config.Console = c.listen, c.console
		i := start(t, config, clock.Real())
		for _, path := range []string{"/console/", "/console/users", "/console/index.html"} {
			if got := i.Call(t, "GET", path, nil).Status; (got == http.StatusOK) != c.served || got != http.StatusOK && got != http.StatusNotFound {
				t.Errorf("%s: %s is %d", name, path, got)
			}
		}
		a := i.Call(t, "POST", "/console/session/login", apitest.Object{"username": FirstAdmin, "password": adminPassword}, "Sec-Fetch-Site", "same-origin")
		if (a.Status == http.StatusOK) != c.served || !c.served && (a.Status != http.StatusNotFound || a.Header.Get("Set-Cookie") != "") {
			t.Errorf("%s: login is %d", name, a.Status)
		}
	}
}
