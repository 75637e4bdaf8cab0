package main_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// TestBadCredentials checks that every invalid credential is refused in the
// same way.
func TestBadCredentials(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	good := "Bearer " + s.Token
	parts := strings.Split(s.Token, ".")
	encode := base64.RawURLEncoding.EncodeToString
	revoked := s.Login(t, "admin", adminPassword).Str("accessToken")
	s.As(revoked).Post(t, "/v1/auth/logout", object{})
	key := s.NewService(t, "orders")

	for name, c := range map[string]struct {
		header []string
		reason string
	}{
		"none":                   {nil, "CREDENTIAL_MISSING"},
		"an empty header":        {[]string{""}, "BAD_AUTHORIZATION"},
		"no token":               {[]string{"Bearer "}, "BAD_AUTHORIZATION"},
		"Basic":                  {[]string{"Basic YWRtaW46YWRtaW4="}, "BAD_AUTHORIZATION"},
		"two headers":            {[]string{good, good}, "BAD_AUTHORIZATION"},
		"two tokens":             {[]string{good + " " + s.Token}, "BAD_AUTHORIZATION"},
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
			anonymous := s.As("")
			for protocol, a := range map[string]apitest.Answer{
				"REST":    anonymous.Call(t, "GET", "/v1/users", nil, header...),
				"Connect": anonymous.Call(t, "POST", "/tollgate.v1.AuthService/ListUsers", object{}, header...),
				"watch":   anonymous.Call(t, "GET", "/v1/audit/events/watch", nil, header...),
			} {
				if a.Status != http.StatusUnauthorized || a.Reason() != c.reason || a.Str("code") != "unauthenticated" {
					t.Errorf("%s: %d %s", protocol, a.Status, a.Raw)
				}
				if !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("%s: WWW-Authenticate: %q", protocol, a.Header.Get("WWW-Authenticate"))
				}
				wantShape(t, a)
			}
		})
	}
	// Authentication comes before validation.
	s.As("").Call(t, "POST", "/v1/users", object{"username": ""}).Want(t, http.StatusUnauthorized)
}

func TestExpiredToken(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "TOLLGATE_ADMIN_PASSWORD="+adminPassword, "TOLLGATE_ACCESS_TOKEN_TTL=2s")
	login := s.Login(t, "admin", adminPassword)
	admin := s.As(login.Str("accessToken"))
	var ended apitest.Answer
	apitest.Eventually(t, "the token expires", func() bool {
		ended = admin.Call(t, "GET", "/v1/auth/whoami", nil)
		return ended.Status != http.StatusOK
	})
	if ended.Status != http.StatusUnauthorized || ended.Reason() != "CREDENTIAL_EXPIRED" {
		t.Errorf("an expired token answers %d %s", ended.Status, ended.Raw)
	}
	next := s.As("").Post(t, "/v1/auth/refresh", object{"refreshToken": login.Str("refreshToken")})
	s.As(next.Str("accessToken")).Get(t, "/v1/auth/whoami")
}
