package main_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a person does who follows the documentation from top to bottom, with
// nothing but HTTP and JSON.
func TestTour(t *testing.T) {
	s := serve(t, t.TempDir())
	if s.password == "" {
		t.Fatal("no password was shown at the first start")
	}
	s.changePassword(t, s.login(t, "admin", s.password), s.password, adminPassword)
	admin := s.as(s.login(t, "admin", adminPassword).str("accessToken"))

	// A user, a role, an assignment.
	userID := admin.newUser(t, "Mia", "a password of mia")
	admin.post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:read"}})
	admin.call(t, "PUT", "/v1/roles/clerk/members/"+userID, object{}).want(t, http.StatusOK)
	login := s.login(t, "mia", "a password of mia")
	if login.str("tokenType") != "Bearer" || login.at("expiresIn") != 900.0 || login.str("userId") != userID {
		t.Errorf("login answered %s", login.raw)
	}
	mia := s.as(login.str("accessToken"))
	who := mia.get(t, "/v1/auth/whoami")
	if who.str("principal", "username") != "mia" || !slices.Equal(who.at("permissions").([]any), []any{"orders:read"}) {
		t.Errorf("whoami answered %s", who.raw)
	}

	// A service with an API key asks about mia.
	service := s.as(admin.newService(t, "orders"))
	verified := service.post(t, "/v1/auth/verify", object{"accessToken": mia.token})
	if verified.at("active") != true || verified.str("principal", "userId") != userID || verified.str("reason") != "REASON_OK" {
		t.Errorf("verify answered %s", verified.raw)
	}
	authorize := func(permission string) answer {
		t.Helper()
		return service.post(t, "/v1/authorize", object{
			"accessToken": mia.token, "permission": permission, "resource": "orders/7", "client": object{"ip": "192.0.2.7"},
		})
	}
	want := func(a answer, allowed bool, reason string) answer {
		t.Helper()
		if a.at("allowed") != allowed || a.str("reason") != reason {
			t.Fatalf("want allowed %t for %s: %s", allowed, reason, a.raw)
		}
		return a
	}
	want(authorize("orders:read"), true, "REASON_OK")
	want(authorize("orders:delete"), false, "REASON_PERMISSION_MISSING")

	// A limit on the service's permissions: three calls at once, then none.
	admin.post(t, "/v1/limits", object{
		"name": "watching", "subject": "SUBJECT_USER", "permission": "orders:*", "rate": 1, "period": "60s", "mode": "MODE_SHADOW",
	})
	admin.post(t, "/v1/limits", object{
		"name": "orders", "subject": "SUBJECT_USER", "permission": "orders:*", "rate": 3, "period": "60s",
	})
	for range 3 { // the limit in shadow mode is exceeded from the second on
		want(authorize("orders:read"), true, "REASON_OK")
	}
	limited := want(authorize("orders:read"), false, "REASON_LIMITED")
	wait, err := time.ParseDuration(limited.str("retryAfter"))
	if err != nil || wait <= 0 || wait > time.Minute {
		t.Errorf("retryAfter: %s", limited.raw)
	}
	statuses := map[string]object{}
	for _, status := range limited.list("limits") {
		statuses[status["name"].(string)] = status
	}
	if statuses["orders"]["exceeded"] != true || statuses["orders"]["remaining"] != "0" || statuses["orders"]["limit"] != "3" {
		t.Errorf("the limit's state: %s", limited.raw)
	}
	if statuses["watching"]["exceeded"] != true || statuses["watching"]["shadow"] != true {
		t.Errorf("the shadow limit's state: %s", limited.raw)
	}

	// The log has it all.
	for query, expected := range map[string]string{
		"action=user.create&outcome=OUTCOME_SUCCESS&resource=users/" + userID: "",
		"action=role.create&resource=roles/clerk":                             "",
		"action=role.assign&resource=roles/clerk":                             "",
		"action=limit.create&resource=limits/orders":                          "",
		"action=auth.login&actor=mia":                                         "",
		"action=access.denied&actor=" + userID + "&resource=orders/7":         "permission_missing limited",
	} {
		var reasons []string
		for _, e := range admin.events(t, query) {
			reasons = append(reasons, e["reason"].(string))
		}
		slices.Reverse(reasons) // oldest first
		if strings.Join(reasons, " ") != expected || len(reasons) == 0 {
			t.Errorf("events for %s: reasons %q, want %q", query, reasons, expected)
		}
	}
}

// A limit on Tollgate's own API answers with what HTTP has for it.
func TestOwnLimit(t *testing.T) {
	s := serveAdmin(t)
	s.post(t, "/v1/limits", object{
		"name": "roles-read", "subject": "SUBJECT_USER", "permission": "tollgate:roles:read", "rate": 2, "period": "60s",
	})
	for left := 1; left >= 0; left-- {
		a := s.get(t, "/v1/roles")
		if got := a.header.Get("RateLimit"); !strings.HasPrefix(got, `"roles-read";r=`+strconv.Itoa(left)+";t=") {
			t.Errorf("RateLimit: %s, want %d left", got, left)
		}
		if got := a.header.Get("RateLimit-Policy"); !strings.HasPrefix(got, `"roles-read";q=2`) {
			t.Errorf("RateLimit-Policy: %s", got)
		}
	}
	refused := s.call(t, "GET", "/v1/roles", nil).want(t, http.StatusTooManyRequests)
	wantLimited(t, refused)
	if got := refused.header.Get("RateLimit"); !strings.HasPrefix(got, `"roles-read";r=0;t=`) {
		t.Errorf("RateLimit of a refusal: %q", got)
	}
	if refused.header.Get("RateLimit-Policy") == "" {
		t.Error("a refusal without RateLimit-Policy")
	}
	// The same refusal over Connect, and nothing else is limited.
	wantLimited(t, s.call(t, "POST", "/tollgate.v1.RolesService/ListRoles", object{}).want(t, http.StatusTooManyRequests))
	s.get(t, "/v1/users")
	if n := len(s.events(t, "action=tollgate.refused&actor=admin")); n != 1 {
		t.Errorf("%d events of two refusals at once, want 1", n)
	}
}

func wantLimited(t *testing.T, a answer) {
	t.Helper()
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
	}
	if a.str("code") != "resource_exhausted" || a.detail("google.rpc.RetryInfo") == nil {
		t.Errorf("a refusal by a limit: %s", a.raw)
	}
}

func TestSignInLimit(t *testing.T) {
	s := serveAdmin(t)
	s.newUser(t, "mia", "a password of mia")
	try := func(name, password string) answer {
		return s.as("").call(t, "POST", "/v1/auth/login", object{"username": name, "password": password})
	}
	for range 10 {
		wrong := try("mia", "not her password").want(t, http.StatusUnauthorized)
		unknown := try("nobody", "not a password").want(t, http.StatusUnauthorized)
		if wrong.str("message") != unknown.str("message") || wrong.reason() != unknown.reason() {
			t.Fatalf("an unknown user is told apart: %s %s", wrong.raw, unknown.raw)
		}
	}
	wantLimited(t, try("mia", "not her password").want(t, http.StatusTooManyRequests))
	wantLimited(t, try("MIA", "a password of mia").want(t, http.StatusTooManyRequests))
	wantLimited(t, try("nobody", "not a password").want(t, http.StatusTooManyRequests))
	if n := len(s.events(t, "action=auth.login&actor=mia&outcome=OUTCOME_FAILURE")); n != 10 {
		t.Errorf("%d events of failed sign-ins, want 10", n)
	}
	if n := len(s.events(t, "action=auth.login&outcome=OUTCOME_DENIED")); n != 2 {
		t.Errorf("%d events of refused sign-ins, want 2: one for each user name, and mia's second in a count later", n)
	}
}

// Paging through the log shows each event once, newest first, whatever is
// added meanwhile.
func TestAuditPaging(t *testing.T) {
	s := serveAdmin(t)
	for i := range 25 {
		s.post(t, "/v1/roles", object{"name": "r" + strconv.Itoa(i)})
	}
	var seen []string
	for token, pages := "", 0; ; pages++ {
		page := s.get(t, "/v1/audit/events?action=role.create&pageSize=10&pageToken="+token)
		for _, e := range page.list("events") {
			if !strings.HasPrefix(e["resource"].(string), "roles/r") {
				continue // built in
			}
			seen = append(seen, e["resource"].(string))
		}
		s.post(t, "/v1/roles", object{"name": "later" + strconv.Itoa(pages)})
		if token = page.str("nextPageToken"); token == "" {
			break
		}
	}
	for i := range 25 {
		if len(seen) != 25 || seen[i] != "roles/r"+strconv.Itoa(24-i) {
			t.Fatalf("the pages held %q", seen)
		}
	}
	last := s.events(t, "action=role.create")[0]["time"].(string)
	if n := len(s.events(t, "action=role.create&after="+last)); n != 1 {
		t.Errorf("%d events at or after the last", n)
	}
	if n := len(s.events(t, "action=role.*&before="+last)); n < 25 {
		t.Errorf("%d events before the last", n)
	}
}

// A refresh token works once; a copy of it ends the session for everybody.
func TestSessionLife(t *testing.T) {
	s := serveAdmin(t)
	service := s.as(s.newService(t, "orders"))
	s.newUser(t, "mia", "a password of mia")
	verify := func(token string, active bool, reason string) {
		t.Helper()
		a := service.post(t, "/v1/auth/verify", object{"accessToken": token})
		if a.at("active") != active || a.str("reason") != reason {
			t.Errorf("verify, want active %t for %s: %s", active, reason, a.raw)
		}
	}
	refresh := func(token string) answer {
		return s.as("").call(t, "POST", "/v1/auth/refresh", object{"refreshToken": token})
	}

	first := s.login(t, "mia", "a password of mia")
	second := refresh(first.str("refreshToken")).want(t, http.StatusOK)
	if second.str("sessionId") != first.str("sessionId") {
		t.Errorf("refreshed into another session: %s", second.raw)
	}
	verify(first.str("accessToken"), true, "REASON_OK")
	verify(second.str("accessToken"), true, "REASON_OK")

	refresh(first.str("refreshToken")).want(t, http.StatusUnauthorized)
	verify(first.str("accessToken"), false, "REASON_CREDENTIAL_REVOKED")
	verify(second.str("accessToken"), false, "REASON_CREDENTIAL_REVOKED")
	refresh(second.str("refreshToken")).want(t, http.StatusUnauthorized)
	refresh(first.str("refreshToken")).want(t, http.StatusUnauthorized)
	s.as(second.str("accessToken")).call(t, "GET", "/v1/auth/whoami", nil).want(t, http.StatusUnauthorized)
	reuse := s.events(t, "action=auth.refresh_reuse")
	if len(reuse) != 1 || reuse[0]["resource"] != "sessions/"+first.str("sessionId") || reuse[0]["ip"] != "127.0.0.1" {
		t.Errorf("events of the reuse: %v", reuse)
	}

	third := s.login(t, "mia", "a password of mia")
	other := s.login(t, "mia", "a password of mia")
	s.as(third.str("accessToken")).post(t, "/v1/auth/logout", object{})
	verify(third.str("accessToken"), false, "REASON_CREDENTIAL_REVOKED")
	refresh(third.str("refreshToken")).want(t, http.StatusUnauthorized)
	verify(other.str("accessToken"), true, "REASON_OK")
	if n := len(s.events(t, "action=auth.logout&actor=mia")); n != 1 {
		t.Errorf("%d events of the logout", n)
	}
}
