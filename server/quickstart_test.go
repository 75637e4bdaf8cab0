package main_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// TestQuickstart makes the calls of the quickstart over REST.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	if s.password == "" {
		t.Fatal("no password was shown at the first start")
	}
	s.ChangePassword(t, s.Login(t, "admin", s.password), s.password, adminPassword)
	admin := s.SignedIn(t, "admin", adminPassword)

	// A user, a role, an assignment.
	userID := admin.NewUser(t, "Mia", "a password of mia")
	admin.Post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read"}})
	admin.Assign(t, "clerk", userID)
	login := s.Login(t, "mia", "a password of mia")
	if login.Str("tokenType") != "Bearer" || login.At("expiresIn") != 900.0 || login.Str("userId") != userID {
		t.Errorf("login answered %s", login.Raw)
	}
	mia := s.As(login.Str("accessToken"))
	who := mia.Get(t, "/v1/auth/whoami")
	if who.Str("principal", "username") != "mia" || !slices.Equal(who.At("permissions").([]any), []any{"orders:read"}) {
		t.Errorf("whoami answered %s", who.Raw)
	}

	// A service with an API key asks about mia.
	service := s.As(admin.NewService(t, "orders"))
	verified := service.Post(t, "/v1/auth/verify", object{"accessToken": mia.Token})
	if verified.At("active") != true || verified.Str("principal", "userId") != userID || verified.Str("reason") != "REASON_OK" {
		t.Errorf("verify answered %s", verified.Raw)
	}
	authorize := func(permission string) apitest.Answer {
		t.Helper()
		return service.Post(t, "/v1/authorize", object{
			"accessToken": mia.Token, "permission": permission, "resource": "orders/7", "client": object{"ip": "192.0.2.7"},
		})
	}
	want := func(a apitest.Answer, allowed bool, reason string) apitest.Answer {
		t.Helper()
		if a.At("allowed") != allowed || a.Str("reason") != reason {
			t.Fatalf("want allowed %t for %s: %s", allowed, reason, a.Raw)
		}
		return a
	}
	want(authorize("orders:read"), true, "REASON_OK")
	want(authorize("orders:delete"), false, "REASON_PERMISSION_MISSING")

	// A limit on the service's permissions: three calls at once, then none.
	admin.Post(t, "/v1/limits", object{
		"name": "watching", "subject": "SUBJECT_USER", "permission": "orders:*", "rate": 1, "period": "60s", "mode": "MODE_SHADOW",
	})
	admin.Post(t, "/v1/limits", object{
		"name": "orders", "subject": "SUBJECT_USER", "permission": "orders:*", "rate": 3, "period": "60s",
	})
	for range 3 { // the limit in shadow mode is exceeded from the second on
		want(authorize("orders:read"), true, "REASON_OK")
	}
	limited := want(authorize("orders:read"), false, "REASON_LIMITED")
	wait, err := time.ParseDuration(limited.Str("retryAfter"))
	if err != nil || wait <= 0 || wait > time.Minute {
		t.Errorf("retryAfter: %s", limited.Raw)
	}
	statuses := map[string]object{}
	for _, status := range limited.List("limits") {
		statuses[status["name"].(string)] = status
	}
	if statuses["orders"]["exceeded"] != true || statuses["orders"]["remaining"] != "0" || statuses["orders"]["limit"] != "3" {
		t.Errorf("the limit's state: %s", limited.Raw)
	}
	if statuses["watching"]["exceeded"] != true || statuses["watching"]["shadow"] != true {
		t.Errorf("the shadow limit's state: %s", limited.Raw)
	}

	// Every change is in the audit log.
	for query, expected := range map[string]string{
		"action=user.create&outcome=OUTCOME_SUCCESS&resource=users/" + userID: "",
		"action=role.create&resource=roles/clerk":                             "",
		"action=role.assign&resource=roles/clerk":                             "",
		"action=limit.create&resource=limits/orders":                          "",
		"action=auth.login&actor=mia":                                         "",
		"action=access.denied&actor=" + userID + "&resource=orders/7":         "permission_missing limited",
	} {
		var reasons []string
		for _, e := range admin.Events(t, query) {
			reasons = append(reasons, e["reason"].(string))
		}
		slices.Reverse(reasons) // oldest first
		if strings.Join(reasons, " ") != expected || len(reasons) == 0 {
			t.Errorf("events for %s: reasons %q, want %q", query, reasons, expected)
		}
	}
}

// TestOwnLimit checks the status and header fields of a limit on Tollgate's own
// API.
func TestOwnLimit(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	s.Post(t, "/v1/limits", object{
		"name": "roles-read", "subject": "SUBJECT_USER", "permission": "tollgate:roles:read", "rate": 2, "period": "60s",
	})
	for left := 1; left >= 0; left-- {
		a := s.Get(t, "/v1/roles")
		if got := a.Header.Get("RateLimit"); !strings.HasPrefix(got, `"roles-read";r=`+strconv.Itoa(left)+";t=") {
			t.Errorf("RateLimit: %s, want %d left", got, left)
		}
		if got := a.Header.Get("RateLimit-Policy"); !strings.HasPrefix(got, `"roles-read";q=2`) {
			t.Errorf("RateLimit-Policy: %s", got)
		}
	}
	refused := s.Call(t, "GET", "/v1/roles", nil).Want(t, http.StatusTooManyRequests)
	wantLimited(t, refused)
	if got := refused.Header.Get("RateLimit"); !strings.HasPrefix(got, `"roles-read";r=0;t=`) {
		t.Errorf("RateLimit of a refusal: %q", got)
	}
	if refused.Header.Get("RateLimit-Policy") == "" {
		t.Error("a refusal without RateLimit-Policy")
	}
	// The same refusal over Connect, and nothing else is limited.
	wantLimited(t, s.Call(t, "POST", "/tollgate.v1.RolesService/ListRoles", object{}).Want(t, http.StatusTooManyRequests))
	s.Get(t, "/v1/users")
	if n := len(s.Events(t, "action=tollgate.refused&actor=admin")); n != 1 {
		t.Errorf("%d events of two refusals at once, want 1", n)
	}
}

func wantLimited(t *testing.T, a apitest.Answer) {
	t.Helper()
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
	}
	if a.Str("code") != "resource_exhausted" || a.Detail("google.rpc.RetryInfo") == nil {
		t.Errorf("a refusal by a limit: %s", a.Raw)
	}
}

func TestSignInLimit(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	s.NewUser(t, "mia", "a password of mia")
	try := func(name, password string) apitest.Answer {
		return s.As("").Call(t, "POST", "/v1/auth/login", object{"username": name, "password": password})
	}
	for range 10 {
		wrong := try("mia", "not her password").Want(t, http.StatusUnauthorized)
		unknown := try("nobody", "not a password").Want(t, http.StatusUnauthorized)
		if wrong.Str("message") != unknown.Str("message") || wrong.Reason() != unknown.Reason() {
			t.Fatalf("an unknown user is told apart: %s %s", wrong.Raw, unknown.Raw)
		}
	}
	wantLimited(t, try("mia", "not her password").Want(t, http.StatusTooManyRequests))
	wantLimited(t, try("MIA", "a password of mia").Want(t, http.StatusTooManyRequests))
	wantLimited(t, try("nobody", "not a password").Want(t, http.StatusTooManyRequests))
	if n := len(s.Events(t, "action=auth.login&actor=mia&outcome=OUTCOME_FAILURE")); n != 10 {
		t.Errorf("%d events of failed sign-ins, want 10", n)
	}
	if n := len(s.Events(t, "action=auth.login&outcome=OUTCOME_DENIED")); n != 2 {
		t.Errorf("%d events of refused sign-ins, want 2: one for each user name, and mia's second in a count later", n)
	}
}

// TestAuditPaging checks that paging shows each event once, newest first, while
// events are added.
func TestAuditPaging(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	for i := range 25 {
		s.Post(t, "/v1/roles", object{"name": "r" + strconv.Itoa(i)})
	}
	var seen []string
	for token, pages := "", 0; ; pages++ {
		page := s.Get(t, "/v1/audit/events?action=role.create&pageSize=10&pageToken="+token)
		for _, e := range page.List("events") {
			if !strings.HasPrefix(e["resource"].(string), "roles/r") {
				continue // built in
			}
			seen = append(seen, e["resource"].(string))
		}
		s.Post(t, "/v1/roles", object{"name": "later" + strconv.Itoa(pages)})
		if token = page.Str("nextPageToken"); token == "" {
			break
		}
	}
	for i := range 25 {
		if len(seen) != 25 || seen[i] != "roles/r"+strconv.Itoa(24-i) {
			t.Fatalf("the pages held %q", seen)
		}
	}
	last := s.Events(t, "action=role.create")[0]["time"].(string)
	if n := len(s.Events(t, "action=role.create&after="+last)); n != 1 {
		t.Errorf("%d events at or after the last", n)
	}
	if n := len(s.Events(t, "action=role.*&before="+last)); n < 25 {
		t.Errorf("%d events before the last", n)
	}
}

// TestSessionLife checks that a refresh token works once and that its reuse
// revokes the session.
func TestSessionLife(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	service := s.As(s.NewService(t, "orders"))
	s.NewUser(t, "mia", "a password of mia")
	verify := func(token string, active bool, reason string) {
		t.Helper()
		a := service.Post(t, "/v1/auth/verify", object{"accessToken": token})
		if a.At("active") != active || a.Str("reason") != reason {
			t.Errorf("verify, want active %t for %s: %s", active, reason, a.Raw)
		}
	}
	refresh := func(token string) apitest.Answer {
		return s.As("").Call(t, "POST", "/v1/auth/refresh", object{"refreshToken": token})
	}

	first := s.Login(t, "mia", "a password of mia")
	second := refresh(first.Str("refreshToken")).Want(t, http.StatusOK)
	if second.Str("sessionId") != first.Str("sessionId") {
		t.Errorf("refreshed into another session: %s", second.Raw)
	}
	verify(first.Str("accessToken"), true, "REASON_OK")
	verify(second.Str("accessToken"), true, "REASON_OK")

	refresh(first.Str("refreshToken")).Want(t, http.StatusUnauthorized)
	verify(first.Str("accessToken"), false, "REASON_CREDENTIAL_REVOKED")
	verify(second.Str("accessToken"), false, "REASON_CREDENTIAL_REVOKED")
	refresh(second.Str("refreshToken")).Want(t, http.StatusUnauthorized)
	refresh(first.Str("refreshToken")).Want(t, http.StatusUnauthorized)
	s.As(second.Str("accessToken")).Call(t, "GET", "/v1/auth/whoami", nil).Want(t, http.StatusUnauthorized)
	reuse := s.Events(t, "action=auth.refresh_reuse")
	if len(reuse) != 1 || reuse[0]["resource"] != "sessions/"+first.Str("sessionId") || reuse[0]["ip"] != "127.0.0.1" {
		t.Errorf("events of the reuse: %v", reuse)
	}

	third := s.Login(t, "mia", "a password of mia")
	other := s.Login(t, "mia", "a password of mia")
	s.As(third.Str("accessToken")).Post(t, "/v1/auth/logout", object{})
	verify(third.Str("accessToken"), false, "REASON_CREDENTIAL_REVOKED")
	refresh(third.Str("refreshToken")).Want(t, http.StatusUnauthorized)
	verify(other.Str("accessToken"), true, "REASON_OK")
	if n := len(s.Events(t, "action=auth.logout&actor=mia")); n != 1 {
		t.Errorf("%d events of the logout", n)
	}
}
