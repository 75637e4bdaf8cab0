package app

import (
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// TestSecondFactorOverREST goes through a second factor as a client does.
func TestSecondFactorOverREST(t *testing.T) {
	i := startEmbedded(t)
	id, token := i.newUser(t, "alice")
	at := "/v1/users/" + id + "/second-factor"
	i.call(t, "POST", at, i.admin, map[string]any{"currentPassword": adminPassword}).want(t, http.StatusForbidden)
	i.call(t, "POST", at, token, map[string]any{}).want(t, http.StatusBadRequest)
	i.call(t, "POST", at, token, map[string]any{"currentPassword": "a wrong guess"}).want(t, http.StatusBadRequest)
	made := i.call(t, "POST", at, token, map[string]any{"currentPassword": "a password of alice"}).want(t, http.StatusOK)
	other := i.login(t, "alice")
	codes, _ := made.body["recoveryCodes"].([]any)
	if len(codes) != 10 || made.str("uri") == "" {
		t.Fatalf("enrolled %v", made.body)
	}
	code, err := totp.GenerateCode(made.str("secret"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if a := i.call(t, "POST", at+"/confirm", token, map[string]any{"code": code}).want(t, http.StatusOK); a.body["revokedSessions"] != 1.0 {
		t.Errorf("confirmed: %s", a.raw)
	}
	i.call(t, "GET", "/v1/auth/whoami", other, nil).want(t, http.StatusUnauthorized)
	i.call(t, "GET", "/v1/auth/whoami", token, nil).want(t, http.StatusOK)

	login := map[string]any{"username": "alice", "password": "a password of alice"}
	if a := i.call(t, "POST", "/v1/auth/login", "", login).want(t, http.StatusUnauthorized); a.reason() != "SECOND_FACTOR_REQUIRED" {
		t.Errorf("without a code: %s", a.raw)
	}
	login["secondFactor"] = code // used up by the confirmation
	if a := i.call(t, "POST", "/v1/auth/login", "", login).want(t, http.StatusUnauthorized); a.reason() != "BAD_CREDENTIALS" {
		t.Errorf("a code again: %s", a.raw)
	}
	login["secondFactor"] = codes[0]
	i.call(t, "POST", "/v1/auth/login", "", login).want(t, http.StatusOK)
	if user := i.call(t, "GET", "/v1/users/"+id, i.admin, nil).want(t, http.StatusOK).object("user"); user["secondFactor"] != true {
		t.Errorf("the user is %v", user)
	}
	i.call(t, "POST", at+"/remove", i.admin, map[string]any{}).want(t, http.StatusOK)
	delete(login, "secondFactor")
	i.call(t, "POST", "/v1/auth/login", "", login).want(t, http.StatusOK)
}

// TestPasswordChangeComesFirst: who must choose a new password can do that, see
// who they are and leave, and nothing else, not even what is theirs.
func TestPasswordChangeComesFirst(t *testing.T) {
	i := startEmbedded(t)
	id, _ := i.newUser(t, "alice", "tollgate:*")
	at := "/v1/users/" + id
	oneTime := i.call(t, "POST", at+"/password", i.admin, map[string]any{}).want(t, http.StatusOK).str("oneTimePassword")
	login := func(password string) string {
		return i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": "alice", "password": password}).want(t, http.StatusOK).str("accessToken")
	}
	token := login(oneTime)
	for _, refused := range []struct {
		method, path string
		body         any
	}{
		{"GET", at, nil},
		{"GET", at + "/sessions", nil},
		{"DELETE", at + "/sessions", nil},
		{"GET", "/v1/api-keys?user_id=" + id, nil},
		{"POST", at + "/second-factor", map[string]any{}},
		{"GET", "/v1/users", nil},
	} {
		a := i.call(t, refused.method, refused.path, token, refused.body).want(t, http.StatusForbidden)
		if a.reason() != "PASSWORD_CHANGE_REQUIRED" {
			t.Errorf("%s %s: %s", refused.method, refused.path, a.raw)
		}
	}
	i.call(t, "GET", "/v1/auth/whoami", token, nil).want(t, http.StatusOK)
	i.call(t, "POST", "/v1/auth/logout", login(oneTime), map[string]any{}).want(t, http.StatusOK)
	i.call(t, "POST", at+"/password", token, map[string]any{"currentPassword": oneTime, "newPassword": "password1"}).want(t, http.StatusBadRequest)
	i.call(t, "POST", at+"/password", token, map[string]any{"currentPassword": oneTime, "newPassword": "a password of hers"}).want(t, http.StatusOK)
	i.call(t, "GET", at, login("a password of hers"), nil).want(t, http.StatusOK)
}
