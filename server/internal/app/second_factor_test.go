package app

import (
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestSecondFactorOverREST goes through a second factor as a client does.
func TestSecondFactorOverREST(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	id, token := i.newUser(t, "alice")
	at := "/v1/users/" + id + "/second-factor"
	i.call(t, "POST", at, i.admin, map[string]any{"currentPassword": adminPassword}).Want(t, http.StatusForbidden)
	i.call(t, "POST", at, token, map[string]any{}).Want(t, http.StatusBadRequest)
	i.call(t, "POST", at, token, map[string]any{"currentPassword": "a wrong guess"}).Want(t, http.StatusBadRequest)
	made := i.call(t, "POST", at, token, map[string]any{"currentPassword": "a password of alice"}).Want(t, http.StatusOK)
	other := i.login(t, "alice")
	codes, _ := made.Body["recoveryCodes"].([]any)
	if len(codes) != 10 || made.Str("uri") == "" {
		t.Fatalf("enrolled %v", made.Body)
	}
	code, err := totp.GenerateCode(made.Str("secret"), time.Now())
	backendtest.Must(t, err)
	if a := i.call(t, "POST", at+"/confirm", token, map[string]any{"code": code}).Want(t, http.StatusOK); a.Body["revokedSessions"] != 1.0 {
		t.Errorf("confirmed: %s", a.Raw)
	}
	i.call(t, "GET", "/v1/auth/whoami", other, nil).Want(t, http.StatusUnauthorized)
	i.call(t, "GET", "/v1/auth/whoami", token, nil).Want(t, http.StatusOK)

	login := map[string]any{"username": "alice", "password": "a password of alice"}
	if a := i.call(t, "POST", "/v1/auth/login", "", login).Want(t, http.StatusUnauthorized); a.Reason() != "SECOND_FACTOR_REQUIRED" {
		t.Errorf("without a code: %s", a.Raw)
	}
	login["secondFactor"] = code // used up by the confirmation
	if a := i.call(t, "POST", "/v1/auth/login", "", login).Want(t, http.StatusUnauthorized); a.Reason() != "BAD_CREDENTIALS" {
		t.Errorf("a code again: %s", a.Raw)
	}
	login["secondFactor"] = codes[0]
	i.call(t, "POST", "/v1/auth/login", "", login).Want(t, http.StatusOK)
	if user := i.call(t, "GET", "/v1/users/"+id, i.admin, nil).Want(t, http.StatusOK); user.At("user", "secondFactor") != true {
		t.Errorf("the user is %v", user)
	}
	i.call(t, "POST", at+"/remove", i.admin, map[string]any{}).Want(t, http.StatusOK)
	delete(login, "secondFactor")
	i.call(t, "POST", "/v1/auth/login", "", login).Want(t, http.StatusOK)
}
