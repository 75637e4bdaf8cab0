package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"pgregory.net/rapid"
)

// state is what nobody but who holds as much may change of a victim.
func (m *reach) state(v victim) (text string) {
	var rows []struct {
		Username string `db:"username"`
		Disabled bool   `db:"disabled"`
	}
	m.must(m.i.db.Select(m.i.draining, &rows, `SELECT username, CASE WHEN disabled_at IS NULL THEN 0 ELSE 1 END AS disabled FROM users WHERE id = $1`, v.id))
	text = fmt.Sprintf("%+v", rows)
	for _, key := range v.keys {
		if m.own[v.id] && len(m.scopes) > 0 && len(key.Scopes) > 0 && perm.Within(key.Scopes, m.scopes) {
			continue // a key may end those of its owner that may do no more
		}
		var ended []int
		m.must(m.i.db.Select(m.i.draining, &ended, `SELECT COUNT(*) FROM api_keys
			WHERE id = $1 AND (revoked_at IS NOT NULL OR replaced_by <> '')`, key.ID))
		text += fmt.Sprint(key.ID, ended)
	}
	return text
}

// try has the attacker make a call with a credential that works, drawn, and
// fails when somebody who holds more is touched by it.
func (m *reach) try(action, procedure string, body map[string]any) map[string]any {
	type before struct {
		victim victim
		state  string // empty: the attacker may change it
		way    string // the same
	}
	var all []before
	for _, v := range m.victims {
		b := before{victim: v}
		if m.beyond(v.id, false) {
			b.state = m.state(v)
		}
		if m.beyond(v.id, true) {
			b.way = m.wayIn(v.id)
		}
		all = append(all, b)
	}
	answer := m.call(m.bearer(), procedure, body)
	for _, b := range all {
		if b.state != "" && m.state(b.victim) != b.state {
			m.t.Fatalf("%s %v changed %s, who holds %+v, from %s to %s; granted was %+v", procedure, body, b.victim.id, m.holds(b.victim.id), b.state, m.state(b.victim), m.granted)
		}
		if now := m.wayIn(b.victim.id); b.way != "" && now != "" && now != b.way { // gone is no way in
			m.t.Fatalf("%s %v opened a way in as %s, who holds %+v; granted was %+v", procedure, body, b.victim.id, m.holds(b.victim.id), m.granted)
		}
	}
	if answer != nil {
		m.done[action]++
	}
	return answer
}

// bearer draws a credential that works and returns it as a header has it.
func (m *reach) bearer() string {
	var good []*loot
	for _, l := range m.loot {
		if m.works(l) != nil {
			good = append(good, l)
		}
	}
	if len(good) == 0 {
		m.t.Skip("no credential works any more")
	}
	l := rapid.SampledFrom(good).Draw(m.t, "credential")
	switch {
	case l.key != "":
		return l.key
	case l.token != "":
		return l.token
	}
	if l.bearer != "" {
		if v, err := m.i.Auth.Verify(m.i.draining, auth.Credential{AccessToken: l.bearer}); err == nil && v.Reason == caller.ReasonOK {
			return l.bearer
		}
	}
	l.bearer = m.login(l.user, l.password)
	return l.bearer
}

func (m *reach) login(user, password string) string {
	u, err := m.i.Auth.GetUser(m.i.draining, user)
	m.must(err)
	answer := m.call("", "AuthService/Login", map[string]any{"username": u.Username, "password": password})
	if answer == nil {
		m.t.Fatalf("%s cannot sign in", u.Username)
	}
	return apitest.Answer{Body: answer}.Str("accessToken")
}

// call makes an RPC; it returns nil for what is refused.
func (m *reach) call(bearer, procedure string, body map[string]any) map[string]any {
	text, err := json.Marshal(body)
	m.must(err)
	return m.send("/tollgate.v1."+procedure, "application/json", "Bearer "+bearer, string(text))
}

// send posts a body; it returns nil for what is refused.
func (m *reach) send(path, contentType, authorization, body string) (answer map[string]any) {
	req := httptest.NewRequest("POST", path, strings.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	if authorization != "Bearer " {
		req.Header.Set("Authorization", authorization)
	}
	m.calls++
	req.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", m.number/250%250, m.number%250, m.calls%250)
	res := httptest.NewRecorder()
	m.handler.ServeHTTP(res, req)
	switch {
	case res.Code == http.StatusServiceUnavailable && strings.Contains(res.Body.String(), "AUDIT_UNAVAILABLE"):
		return nil // a busy machine's database: it was not done
	case res.Code >= 500:
		m.t.Fatalf("%s %s: %d %s", path, body, res.Code, res.Body)
	case res.Code != http.StatusOK:
		return nil
	}
	m.must(json.Unmarshal(res.Body.Bytes(), &answer))
	return answer
}
