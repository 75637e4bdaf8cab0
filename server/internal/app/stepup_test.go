package app

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
)

// harmless are the RPCs that take a permission to write and are not sensitive:
// people do the first two for themselves only, the others take away what signing
// in gives back, and the rest changes no right.
var harmless = []string{"EnrollSecondFactor", "ConfirmSecondFactor", "RevokeSession", "RevokeSessions", "RecordEvent"}

// TestSensitiveRPCs: every RPC that changes who may do what, or what is recorded of it,
// takes the step up.
func TestSensitiveRPCs(t *testing.T) {
	t.Parallel()
	for _, method := range contract.Methods() {
		guard := guardOf(method)
		permission := guard.GetPermission()
		writes := strings.HasSuffix(permission, ":write") || strings.HasSuffix(permission, ":configure") || strings.HasSuffix(permission, ":hold")
		want := writes && !slices.Contains(harmless, string(method.Name()))
		if guard.GetSensitive() != want {
			t.Errorf("%s: sensitive %v, want %v", method.FullName(), guard.GetSensitive(), want)
		}
	}
}

// TestSecondFactorIsRequired: who holds a role that takes a second factor makes
// no sensitive call without one, and can always get one.
func TestSecondFactorIsRequired(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	config := testConfig(backendtest.SQLiteURL(t))
	config.RequireSecondFactorFor = []string{"administrator", "administrater"}
	clk, fake := fakeClock(time.Now())
	i := startLogging(t, config, clk, slog.New(slog.NewTextHandler(&log, nil)))
	if n := strings.Count(log.String(), "names a role that there is not"); n != 1 || !strings.Contains(log.String(), "role=administrater") {
		t.Errorf("%d warnings of the misspelled role: %s", n, log.String())
	}
	for _, method := range contract.Methods() {
		guard := guardOf(method)
		if method.Name() == "Logout" {
			continue
		}
		code := i.callRPC(t, method, i.admin)
		if (code == "unauthenticated") != guard.GetSensitive() {
			t.Errorf("%s, sensitive %v: %q", method.FullName(), guard.GetSensitive(), code)
		}
	}
	role := map[string]any{"name": "r", "permissions": []string{"orders:read"}}
	a := i.call(t, "POST", "/v1/roles", i.admin, role).Want(t, 401)
	if a.Reason() != "SECOND_FACTOR_REQUIRED" || a.Header.Get("WWW-Authenticate") != `Bearer error="insufficient_user_authentication"` ||
		!strings.Contains(a.Str("message"), "/v1/users/"+i.user+"/second-factor") {
		t.Errorf("%s %v", a.Raw, a.Header)
	}
	if e := i.As(i.admin).Events(t, "action=tollgate.refused&resource=/tollgate.v1.RolesService/CreateRole")[0]; e["reason"] != "second_factor_required" || e["outcome"] != "OUTCOME_DENIED" {
		t.Errorf("recorded %v", e)
	}

	// The way out takes nothing that is not there yet.
	at := "/v1/users/" + i.user
	i.call(t, "POST", at+"/password", i.admin, map[string]any{"currentPassword": adminPassword, "newPassword": "another password"}).Want(t, 200)
	login := map[string]any{"username": FirstAdmin, "password": "another password"}
	token := i.call(t, "POST", "/v1/auth/login", "", login).Want(t, 200).Str("accessToken")
	made := i.call(t, "POST", at+"/second-factor", token, map[string]any{"currentPassword": "another password"}).Want(t, 200)
	code, err := totp.GenerateCode(made.Str("secret"), fake.Now())
	backendtest.Must(t, err)
	i.call(t, "POST", at+"/second-factor/confirm", token, map[string]any{"code": code}).Want(t, 200)
	i.call(t, "POST", "/v1/roles", token, role).Want(t, 401) // signed in without it
	codes, _ := made.Body["recoveryCodes"].([]any)
	login["secondFactor"] = codes[0]
	grant := i.call(t, "POST", "/v1/auth/login", "", login).Want(t, 200)
	token = grant.Str("accessToken")
	i.call(t, "POST", "/v1/roles", token, role).Want(t, 200)
	token = i.call(t, "POST", "/v1/auth/refresh", "", map[string]any{"refreshToken": grant.Str("refreshToken")}).Want(t, 200).Str("accessToken")
	who := i.call(t, "GET", "/v1/auth/whoami", token, nil).Want(t, 200).At("principal").(map[string]any)
	if amr, _ := who["amr"].([]any); len(amr) != 3 || who["authTime"] == nil || who["audience"] != "tollgate" {
		t.Errorf("principal %v", who)
	}
}

// TestRecentSignInIsRequired: a sensitive call takes a recent sign-in, which a
// refresh is not.
func TestRecentSignInIsRequired(t *testing.T) {
	t.Parallel()
	config := testConfig(backendtest.SQLiteURL(t))
	config.RequireRecentSignIn = 10 * time.Minute
	clk, fake := fakeClock(time.Now())
	i := start(t, config, clk)
	login := map[string]any{"username": FirstAdmin, "password": adminPassword}
	grant := i.call(t, "POST", "/v1/auth/login", "", login).Want(t, 200)
	token := grant.Str("accessToken")
	create := func(name string) apitest.Answer {
		return i.call(t, "POST", "/v1/roles", token, map[string]any{"name": name, "permissions": []string{"orders:read"}})
	}
	fake.Advance(9 * time.Minute)
	create("a").Want(t, 200)
	fake.Advance(2 * time.Minute)
	refused := func() {
		t.Helper()
		a := create("b").Want(t, 401)
		if a.Reason() != "SIGN_IN_REQUIRED" || a.Header.Get("WWW-Authenticate") != `Bearer error="insufficient_user_authentication", max_age="600"` {
			t.Errorf("%s %v", a.Raw, a.Header)
		}
	}
	refused()
	token = i.call(t, "POST", "/v1/auth/refresh", "", map[string]any{"refreshToken": grant.Str("refreshToken")}).Want(t, 200).Str("accessToken")
	refused()
	i.call(t, "GET", "/v1/roles", token, nil).Want(t, 200)
	token = i.call(t, "POST", "/v1/auth/login", "", login).Want(t, 200).Str("accessToken")
	create("b").Want(t, 200)
	fake.Advance(11 * time.Minute)
	i.call(t, "POST", "/v1/users/"+i.user+"/password", token, map[string]any{"currentPassword": adminPassword, "newPassword": "another password"}).Want(t, 200)
}
