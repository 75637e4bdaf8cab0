package app

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// newClient makes a service account with a role of these permissions, and
// returns the id and the secret of a key of it.
func (i *instance) newClient(t *testing.T, name string, permissions ...string) (id, secret string) {
	t.Helper()
	user := i.call(t, "POST", "/v1/users", i.admin, map[string]any{"username": name, "kind": "USER_KIND_SERVICE"}).Want(t, 200).Str("user", "id")
	i.call(t, "POST", "/v1/roles", i.admin, map[string]any{"name": "role-of-" + name, "permissions": permissions}).Want(t, 200)
	i.call(t, "PUT", "/v1/roles/role-of-"+name+"/members/"+user, i.admin, map[string]any{}).Want(t, 200)
	made := i.call(t, "POST", "/v1/api-keys", i.admin, map[string]any{"userId": user, "name": "key", "scopes": permissions}).Want(t, 200)
	id = made.Str("apiKey", "id")
	return id, made.Str("secret")
}

// post sends a form; authorization is the whole header.
func (i *instance) post(t *testing.T, path, authorization, body string) apitest.Answer {
	t.Helper()
	header := []string{"Content-Type", "application/x-www-form-urlencoded"}
	if authorization != "" {
		header = append(header, "Authorization", authorization)
	}
	return i.Call(t, "POST", path, body, header...)
}

func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// TestStandardClient: golang.org/x/oauth2 works as it is.
func TestStandardClient(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		id, secret := i.newClient(t, "robot", "tollgate:roles:read", "orders:read")
		for name, style := range map[string]oauth2.AuthStyle{
			"detected": oauth2.AuthStyleAutoDetect, "header": oauth2.AuthStyleInHeader, "body": oauth2.AuthStyleInParams,
		} {
			config := clientcredentials.Config{
				ClientID: id, ClientSecret: secret, TokenURL: i.URL + "/v1/oauth2/token",
				Scopes: []string{"tollgate:roles:read"}, AuthStyle: style,
			}
			token, err := config.Token(t.Context())
			if err != nil {
				t.Fatal(name, err)
			}
			if left := time.Until(token.Expiry); !token.Valid() || token.Type() != "Bearer" || left < 14*time.Minute || left > 16*time.Minute ||
				token.Extra("scope") != "tollgate:roles:read" {
				t.Errorf("%s: %+v", name, token)
			}
			res, err := config.Client(t.Context()).Get(i.URL + "/v1/roles")
			backendtest.Must(t, err)
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("%s: a call with the token: %d", name, res.StatusCode)
			}
			config.Scopes = []string{"tollgate:roles:write"}
			wantOAuthError(t, config, http.StatusBadRequest, "invalid_scope")
			config.ClientSecret = secret[:len(secret)-1]
			wantOAuthError(t, config, http.StatusUnauthorized, "invalid_client")
		}

		// A person's session is refreshed by the library, and goes on.
		login := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword}).Want(t, 200)
		for _, clientID := range []string{"tollgate", ""} {
			config := oauth2.Config{ClientID: clientID, Endpoint: oauth2.Endpoint{TokenURL: i.URL + "/v1/oauth2/token"}}
			refresh := login.Str("refreshToken")
			for range 3 {
				token, err := config.TokenSource(t.Context(), &oauth2.Token{RefreshToken: refresh}).Token()
				if err != nil {
					t.Fatalf("client %q: %v", clientID, err)
				}
				if token.RefreshToken == refresh || token.RefreshToken == "" {
					t.Error("the refresh token stayed")
				}
				i.call(t, "GET", "/v1/roles", token.AccessToken, nil).Want(t, 200)
				refresh = token.RefreshToken
			}
			login.Body["refreshToken"] = refresh
		}
	})
}

func wantOAuthError(t *testing.T, config clientcredentials.Config, status int, code string) {
	t.Helper()
	_, err := config.Token(t.Context())
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) || refused.ErrorCode != code || refused.Response.StatusCode != status {
		t.Errorf("error %v, want %d %s", err, status, code)
	}
}

// TestOAuthRefusals: what RFC 6749, 7009 and 7662 have a server refuse.
func TestOAuthRefusals(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	id, secret := i.newClient(t, "robot", "orders:read")
	verifierID, verifier := i.newClient(t, "verifier", "tollgate:verify")
	otherID, _ := i.newClient(t, "other", "orders:read")
	const token, introspect, revoke = "/v1/oauth2/token", "/v1/oauth2/introspect", "/v1/oauth2/revoke"
	good := basic(id, secret)
	long := strings.Repeat("x", 8<<10+1)
	for name, c := range map[string]struct {
		path, authorization, body string
		status                    int
		code                      string
	}{
		"no grant type":         {token, good, "", 400, "invalid_request"},
		"empty grant type":      {token, good, "grant_type=", 400, "invalid_request"},
		"other grant type":      {token, good, "grant_type=password&username=a&password=b", 400, "unsupported_grant_type"},
		"parameter twice":       {token, good, "grant_type=client_credentials&grant_type=client_credentials", 400, "invalid_request"},
		"unknown one twice":     {token, good, "grant_type=client_credentials&x=1&x=2", 400, "invalid_request"},
		"bad escape":            {token, good, "grant_type=%zz", 400, "invalid_request"},
		"semicolon":             {token, good, "grant_type=client_credentials;x=1", 400, "invalid_request"},
		"not UTF-8":             {token, good, "grant_type=client_credentials&scope=%ff", 400, "invalid_request"},
		"query":                 {token + "?x=1", good, "grant_type=client_credentials", 400, "invalid_request"},
		"no client":             {token, "", "grant_type=client_credentials", 401, "invalid_client"},
		"public client":         {token, "", "grant_type=client_credentials&client_id=tollgate", 401, "invalid_client"},
		"no secret":             {token, "", "grant_type=client_credentials&client_id=" + id, 401, "invalid_client"},
		"no id":                 {token, "", "grant_type=client_credentials&client_secret=" + secret, 401, "invalid_client"},
		"another's id":          {token, basic(otherID, secret), "grant_type=client_credentials", 401, "invalid_client"},
		"another's id, body":    {token, "", "grant_type=client_credentials&client_id=" + otherID + "&client_secret=" + secret, 401, "invalid_client"},
		"two ids":               {token, good, "grant_type=client_credentials&client_id=" + otherID, 401, "invalid_client"},
		"two ways":              {token, good, "grant_type=client_credentials&client_id=" + id + "&client_secret=" + secret, 400, "invalid_request"},
		"a session as secret":   {token, basic(id, i.admin), "grant_type=client_credentials", 401, "invalid_client"},
		"bearer":                {token, "Bearer " + secret, "grant_type=client_credentials", 401, "invalid_client"},
		"no colon":              {token, "Basic " + base64.StdEncoding.EncodeToString([]byte(id)), "grant_type=client_credentials", 401, "invalid_client"},
		"not base64":            {token, "Basic !!", "grant_type=client_credentials", 401, "invalid_client"},
		"bad escape in Basic":   {token, "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":%zz")), "grant_type=client_credentials", 401, "invalid_client"},
		"other scheme":          {token, "Digest x", "grant_type=client_credentials", 401, "invalid_client"},
		"wider scope":           {token, good, "grant_type=client_credentials&scope=*", 400, "invalid_scope"},
		"no pattern":            {token, good, "grant_type=client_credentials&scope=openid+Profile", 400, "invalid_scope"},
		"no refresh token":      {token, "", "grant_type=refresh_token", 400, "invalid_request"},
		"unknown refresh token": {token, "", "grant_type=refresh_token&refresh_token=x", 400, "invalid_grant"},
		"refresh with a scope":  {token, "", "grant_type=refresh_token&refresh_token=x&scope=orders:read", 400, "invalid_scope"},
		"refresh, bad client":   {token, basic(id, "wrong"), "grant_type=refresh_token&refresh_token=x", 401, "invalid_client"},
		"introspect as nobody":  {introspect, "", "token=x", 401, "invalid_client"},
		"introspect, bad key":   {introspect, basic(id, "wrong"), "token=x", 401, "invalid_client"},
		"introspect, bearer":    {introspect, "Bearer wrong", "token=x", 401, "invalid_token"},
		"introspect, no right":  {introspect, good, "token=x", 403, "insufficient_scope"},
		"introspect nothing":    {introspect, basic(verifierID, verifier), "token_type_hint=access_token", 400, "invalid_request"},
		"introspect much":       {introspect, basic(verifierID, verifier), "token=" + long, 400, "invalid_request"},
		"introspect two":        {introspect, basic(verifierID, verifier), "token=a&token=b", 400, "invalid_request"},
		"revoke nothing":        {revoke, "", "", 400, "invalid_request"},
		"revoke much":           {revoke, "", "token=" + long, 400, "invalid_request"},
		"revoke a key":          {revoke, "", "token=" + secret, 400, "unsupported_token_type"},
		"revoke, bad client":    {revoke, basic(id, "wrong"), "token=x", 401, "invalid_client"},
	} {
		a := i.post(t, c.path, c.authorization, c.body)
		if a.Status != c.status || a.Str("error") != c.code || a.Str("error_description") == "" || a.Body["code"] != nil {
			t.Errorf("%s: %d %s, want %d %s", name, a.Status, a.Raw, c.status, c.code)
		}
		if a.Header.Get("Cache-Control") != "no-store" || (a.Header.Get("WWW-Authenticate") != "") != (a.Status == 401) {
			t.Errorf("%s: header %v", name, a.Header)
		}
		if strings.Contains(string(a.Raw), secret) {
			t.Errorf("%s: tells the secret", name)
		}
	}
	for _, path := range []string{token, introspect, revoke} {
		if a := i.call(t, "GET", path, i.admin, nil); a.Status != 405 || a.Header.Get("Allow") != "POST" || a.Str("error") != "invalid_request" {
			t.Errorf("GET %s: %d %s", path, a.Status, a.Raw)
		}
		if a := i.call(t, "POST", path, i.admin, `{"token":"x"}`); a.Status != 400 || a.Str("error") != "invalid_request" {
			t.Errorf("JSON to %s: %d %s", path, a.Status, a.Raw)
		}
	}
	// Good ones, so that the refusals are for what is wrong with them.
	i.post(t, token, good, "grant_type=client_credentials&unknown=1&scope=").Want(t, 200)
	i.post(t, introspect, "Bearer "+verifier, "token=x&token_type_hint=unknown").Want(t, 200)
}

// TestOAuthTokensEnd: introspection and revocation over HTTP, limits that hold
// at these endpoints too, and a revoked key whose tokens end at once.
func TestOAuthTokensEnd(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	id, secret := i.newClient(t, "robot", "tollgate:roles:read")
	verifierID, verifier := i.newClient(t, "verifier", "tollgate:verify")
	token := i.post(t, "/v1/oauth2/token", basic(id, secret), "grant_type=client_credentials").Want(t, 200).Str("access_token")
	look := func(token, hint string) apitest.Answer {
		t.Helper()
		return i.post(t, "/v1/oauth2/introspect", basic(verifierID, verifier), url.Values{"token": {token}, "token_type_hint": {hint}}.Encode()).Want(t, 200)
	}
	for _, hint := range []string{"", "access_token", "refresh_token", "nonsense"} {
		a := look(token, hint)
		if a.Body["active"] != true || a.Str("client_id") != id || a.Str("scope") != "tollgate:roles:read" || a.Str("iss") != "http://tollgate.test" ||
			a.Str("token_type") != "Bearer" || a.Str("username") != "robot" || a.Body["exp"] == nil || a.Body["sid"] != nil {
			t.Errorf("hint %q: %s", hint, a.Raw)
		}
	}
	i.call(t, "GET", "/v1/roles", token, nil).Want(t, 200)
	i.call(t, "POST", "/v1/auth/logout", token, map[string]any{}).Want(t, 400) // it has no session
	i.post(t, "/v1/oauth2/revoke", "", "token="+token).Want(t, 400)
	i.call(t, "DELETE", "/v1/api-keys/"+id, i.admin, nil).Want(t, 200)
	i.call(t, "GET", "/v1/roles", token, nil).Want(t, 401)
	for _, bad := range []string{token, secret, "x"} {
		if a := look(bad, ""); strings.TrimSpace(string(a.Raw)) != `{"active":false}` {
			t.Errorf("%s", a.Raw)
		}
	}

	login := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword}).Want(t, 200)
	if a := look(login.Str("refreshToken"), "access_token"); a.Body["active"] != true || a.Str("sid") != login.Str("sessionId") {
		t.Errorf("%s", a.Raw)
	}
	// A client with a key of its own is not the one that the session belongs to.
	for _, form := range []string{"grant_type=refresh_token&refresh_token=" + login.Str("refreshToken"), "token=" + login.Str("refreshToken"), "token=" + login.Str("accessToken")} {
		path := "/v1/oauth2/token"
		if strings.HasPrefix(form, "token=") {
			path = "/v1/oauth2/revoke"
		}
		if a := i.post(t, path, basic(verifierID, verifier), form); a.Status != 400 || a.Str("error") != "invalid_grant" {
			t.Errorf("%s by another client: %d %s", path, a.Status, a.Raw)
		}
	}
	if a := look(login.Str("refreshToken"), ""); a.Body["active"] != true {
		t.Errorf("another client has spent the refresh token: %s", a.Raw)
	}
	for range 2 {
		if a := i.post(t, "/v1/oauth2/revoke", "", "token="+login.Str("refreshToken")); a.Status != 200 || len(a.Raw) != 0 {
			t.Errorf("%d %s", a.Status, a.Raw)
		}
	}
	i.call(t, "GET", "/v1/roles", login.Str("accessToken"), nil).Want(t, 401)

	i.call(t, "POST", "/v1/limits", i.admin, map[string]any{
		"name": "few-refreshes", "subject": "SUBJECT_IP", "permission": "tollgate:refresh", "rate": 1, "period": "60s", "burst": 1,
	}).Want(t, 200)
	i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&refresh_token=x").Want(t, 400)
	a := i.post(t, "/v1/oauth2/token", "", "grant_type=refresh_token&refresh_token=x")
	if a.Status != 429 || a.Str("error") != "temporarily_unavailable" || a.Header.Get("Retry-After") == "" {
		t.Errorf("over the limit: %d %s %v", a.Status, a.Raw, a.Header)
	}
}

func TestOAuthMetadata(t *testing.T) {
	t.Parallel()
	for issuer, paths := range map[string]map[string]int{
		"https://id.example":      {"": 200, "/": 200, "/tenant": 404},
		"https://id.example/auth": {"": 200, "/auth": 200, "/other": 404},
	} {
		config := testConfig(backendtest.SQLiteURL(t))
		config.Issuer = issuer
		i := start(t, config, clock.Real())
		for path, status := range paths {
			a := i.call(t, "GET", "/.well-known/oauth-authorization-server"+path, "", nil)
			if a.Status != status {
				t.Errorf("%s: %s: %d", issuer, path, a.Status)
			}
			if status != 200 {
				continue
			}
			grants, _ := a.At("grant_types_supported").([]any)
			if a.Str("issuer") != issuer || a.Str("token_endpoint") != issuer+"/v1/oauth2/token" || a.Str("jwks_uri") != issuer+"/.well-known/jwks.json" ||
				a.Str("revocation_endpoint") != issuer+"/v1/oauth2/revoke" || len(grants) != 2 || a.At("response_types_supported") == nil {
				t.Errorf("%s: %s", issuer, a.Raw)
			}
		}
	}
}
