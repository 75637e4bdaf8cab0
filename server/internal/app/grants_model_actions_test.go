package app

import (
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"pgregory.net/rapid"
)

// actions are what the attacker of TestNothingBeyondWhatWasGranted tries; the
// empty one is the model's check after each.
func (m *reach) actions() map[string]func(*rapid.T) {
	pick := func(label string, from []string) string {
		if len(from) == 0 {
			m.t.Skip("none")
		}
		return rapid.SampledFrom(from).Draw(m.t, label)
	}
	user := func() string {
		if rapid.Bool().Draw(m.t, "a victim") {
			return rapid.SampledFrom(m.victims).Draw(m.t, "victim").id
		}
		return pick("user", m.people)
	}
	withEnd := func(body map[string]any) map[string]any {
		if ends := m.until(); !ends.IsZero() {
			body["expiresAt"] = ends.Format(time.RFC3339Nano)
		}
		return body
	}
	takeKey := func(answer map[string]any) {
		if answer == nil {
			return
		}
		made := apitest.Answer{Body: answer}
		m.keys = append(m.keys, made.Str("apiKey", "id"))
		m.take(&loot{user: made.Str("apiKey", "userId"), key: made.Str("secret")})
	}
	list := map[string]func(){
		"create a person": func() {
			if u := m.try("create a person", "AuthService/CreateUser", map[string]any{"username": m.name("made"), "password": lootPassword}); u != nil {
				m.made(u, lootPassword)
			}
		},
		"create a service account": func() {
			if u := m.try("create a service account", "AuthService/CreateUser", map[string]any{"username": m.name("made"), "kind": "USER_KIND_SERVICE"}); u != nil {
				m.made(u, "")
			}
		},
		"disable or enable": func() {
			m.try("disable or enable", "AuthService/UpdateUser", map[string]any{"id": user(), "disabled": rapid.Bool().Draw(m.t, "disabled")})
		},
		"rename": func() {
			m.try("rename", "AuthService/UpdateUser", map[string]any{"id": user(), "username": m.name("renamed")})
		},
		"delete a user": func() { m.try("delete a user", "AuthService/DeleteUser", map[string]any{"id": user()}) },
		"reset a password": func() {
			id := user()
			body := map[string]any{"id": id, "newPassword": lootPassword, "revokeApiKeys": rapid.Bool().Draw(m.t, "revoke keys")}
			if m.try("reset a password", "AuthService/SetPassword", body) == nil {
				return
			}
			// Its user has to choose another one, whoever that is.
			u, err := m.i.Auth.GetUser(m.i.draining, id)
			m.must(err)
			if u.Disabled || u.SecondFactor {
				return
			}
			next := lootPassword + " " + m.name("next")
			if m.call(m.login(id, lootPassword), "AuthService/SetPassword", map[string]any{"id": id, "currentPassword": lootPassword, "newPassword": next}) == nil {
				m.t.Fatal("the new password cannot be changed")
			}
			m.take(&loot{user: id, password: next})
		},
		"end sessions": func() { m.try("end sessions", "AuthService/RevokeSessions", map[string]any{"id": user()}) },
		"remove a second factor": func() {
			m.try("remove a second factor", "AuthService/RemoveSecondFactor", map[string]any{"id": user()})
		},
		"create a key": func() {
			body := withEnd(map[string]any{"name": "a key", "scopes": m.patterns("scopes")})
			if rapid.Bool().Draw(m.t, "for another") {
				body["userId"] = user()
			}
			takeKey(m.try("create a key", "AuthService/CreateAPIKey", body))
		},
		"rotate a key": func() {
			body := map[string]any{"id": pick("key", m.keys)}
			if rapid.Bool().Draw(m.t, "overlap") {
				body["overlap"] = "3600s"
			}
			takeKey(m.try("rotate a key", "AuthService/RotateAPIKey", body))
		},
		"revoke a key":         func() { m.try("revoke a key", "AuthService/RevokeAPIKey", map[string]any{"id": pick("key", m.keys)}) },
		"get a client's token": m.clientToken,
		"create a role": func() {
			name := m.name("made")
			if m.try("create a role", "RolesService/CreateRole", map[string]any{"name": name, "permissions": m.patterns("permissions")}) != nil {
				m.roles = append(m.roles, name)
			}
		},
		"change a role": func() {
			body := map[string]any{"name": pick("role", m.roles)}
			if patterns := m.patterns("permissions"); len(patterns) > 0 {
				body["permissions"] = patterns
			} else {
				body["clearPermissions"] = true
			}
			m.try("change a role", "RolesService/UpdateRole", body)
		},
		"delete a role": func() {
			m.try("delete a role", "RolesService/DeleteRole", map[string]any{"name": pick("role", m.roles)})
		},
		"assign a role": func() {
			m.try("assign a role", "RolesService/AssignRole", withEnd(map[string]any{"role": pick("role", m.roles), "userId": user()}))
		},
		"take a role": func() {
			m.try("take a role", "RolesService/UnassignRole", map[string]any{"role": pick("role", m.roles), "userId": user()})
		},
		"wait": func() {
			m.clock.Advance(rapid.SampledFrom([]time.Duration{time.Minute, 5 * time.Minute, time.Hour}).Draw(m.t, "time"))
			m.done["wait"]++
		},
	}
	maps.Copy(list, m.policyActions(pick, user))
	actions := map[string]func(*rapid.T){"": func(t *rapid.T) { m.t = t; m.check() }}
	for name, act := range list {
		actions[name] = func(t *rapid.T) {
			m.t = t
			act()
		}
	}
	return actions
}

// made adds a user whom the attacker made.
func (m *reach) made(answer map[string]any, password string) {
	id := apitest.Answer{Body: answer}.Str("user", "id")
	m.people = append(m.people, id)
	m.own[id] = true
	if password != "" {
		m.take(&loot{user: id, password: password})
	}
}

// clientToken has a key that the attacker has get an access token (RFC 6749
// §4.4).
func (m *reach) clientToken() {
	var keys []*loot
	for _, l := range m.loot {
		if l.key != "" && m.works(l) != nil {
			keys = append(keys, l)
		}
	}
	if len(keys) == 0 {
		m.t.Skip("no keys")
	}
	l := rapid.SampledFrom(keys).Draw(m.t, "key")
	form := url.Values{"grant_type": {"client_credentials"}}
	if scopes := m.patterns("scope"); len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	v, err := m.i.Auth.Verify(m.i.draining, auth.Credential{APIKey: l.key})
	m.must(err)
	if v.Reason != caller.ReasonOK {
		m.t.Skip("the key has ended")
	}
	answer := m.send("/v1/oauth2/token", "application/x-www-form-urlencoded", basic(v.Principal.APIKeyID, l.key), form.Encode())
	if answer == nil {
		return
	}
	m.done["get a client's token"]++
	m.take(&loot{user: l.user, token: apitest.Answer{Body: answer}.Str("access_token")})
}
