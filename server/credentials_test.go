package main_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// Every credential that is not a good one is refused in the same way.
func TestBadCredentials(t *testing.T) {
	s := serveAdmin(t)
	good := "Bearer " + s.token
	parts := strings.Split(s.token, ".")
	encode := base64.RawURLEncoding.EncodeToString
	revoked := s.login(t, "admin", adminPassword).str("accessToken")
	s.as(revoked).post(t, "/v1/auth/logout", object{})
	key := s.newService(t, "orders")

	for name, c := range map[string]struct {
		header []string
		reason string
	}{
		"none":                   {nil, "CREDENTIAL_MISSING"},
		"an empty header":        {[]string{""}, "BAD_AUTHORIZATION"},
		"no token":               {[]string{"Bearer "}, "BAD_AUTHORIZATION"},
		"Basic":                  {[]string{"Basic YWRtaW46YWRtaW4="}, "BAD_AUTHORIZATION"},
		"two headers":            {[]string{good, good}, "BAD_AUTHORIZATION"},
		"two tokens":             {[]string{good + " " + s.token}, "BAD_AUTHORIZATION"},
		"two in a list":          {[]string{good + ", " + good}, "BAD_AUTHORIZATION"},
		"garbage":                {[]string{"Bearer garbage"}, "CREDENTIAL_INVALID"},
		"a long token":           {[]string{"Bearer " + strings.Repeat("x", 16<<10)}, "CREDENTIAL_INVALID"},
		"a token cut short":      {[]string{strings.TrimSuffix(good, parts[2])}, "CREDENTIAL_INVALID"},
		"another's signature":    {[]string{"Bearer " + parts[0] + "." + parts[1] + "." + encode(make([]byte, 64))}, "CREDENTIAL_INVALID"},
		"no algorithm":           {[]string{"Bearer " + encode([]byte(`{"alg":"none","typ":"at+jwt"}`)) + "." + parts[1] + "."}, "CREDENTIAL_INVALID"},
		"a key that nobody has":  {[]string{"Bearer tg_garbage"}, "CREDENTIAL_INVALID"},
		"a key with a wrong end": {[]string{"Bearer " + key[:len(key)-1] + "!"}, "CREDENTIAL_INVALID"},
		"an ended session":       {[]string{"Bearer " + revoked}, "CREDENTIAL_REVOKED"},
	} {
		t.Run(name, func(t *testing.T) {
			var header []string
			for _, value := range c.header {
				header = append(header, "Authorization", value)
			}
			nobody := s.as("")
			for door, a := range map[string]answer{
				"REST":    nobody.call(t, "GET", "/v1/users", nil, header...),
				"Connect": nobody.call(t, "POST", "/tollgate.v1.AuthService/ListUsers", object{}, header...),
				"watch":   nobody.call(t, "GET", "/v1/audit/events/watch", nil, header...),
			} {
				if a.status != http.StatusUnauthorized || a.reason() != c.reason || a.str("code") != "unauthenticated" {
					t.Errorf("%s: %d %s", door, a.status, a.raw)
				}
				if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("%s: WWW-Authenticate: %q", door, a.header.Get("WWW-Authenticate"))
				}
				wantShape(t, a)
			}
		})
	}
	// Who may not is told so before being told what is wrong with the request.
	s.as("").call(t, "POST", "/v1/users", object{"username": ""}).want(t, http.StatusUnauthorized)
}

func TestExpiredToken(t *testing.T) {
	s := serve(t, t.TempDir(), "TOLLGATE_ADMIN_PASSWORD="+adminPassword, "TOLLGATE_ACCESS_TOKEN_TTL=2s")
	login := s.login(t, "admin", adminPassword)
	admin := s.as(login.str("accessToken"))
	var ended answer
	eventually(t, "the token expires", func() bool {
		ended = admin.call(t, "GET", "/v1/auth/whoami", nil)
		return ended.status != http.StatusOK
	})
	if ended.status != http.StatusUnauthorized || ended.reason() != "CREDENTIAL_EXPIRED" {
		t.Errorf("an expired token answers %d %s", ended.status, ended.raw)
	}
	next := s.as("").post(t, "/v1/auth/refresh", object{"refreshToken": login.str("refreshToken")})
	s.as(next.str("accessToken")).get(t, "/v1/auth/whoami")
}
