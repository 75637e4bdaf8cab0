package main_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// The paths of AuthZEN (openid.net/specs/authorization-api-1_0.html §10).
const (
	evaluation     = "/access/v1/evaluation"
	evaluations    = "/access/v1/evaluations"
	searchSubject  = "/access/v1/search/subject"
	searchResource = "/access/v1/search/resource"
	searchAction   = "/access/v1/search/action"
)

var authzenPaths = []string{evaluation, evaluations, searchSubject, searchResource, searchAction}

// pdp is a real Tollgate and an enforcement point that asks it by AuthZEN.
type pdp struct {
	*tollgate
	pep apitest.Client
}

// decisionPoint starts a server whose enforcement point has a service account's key.
func decisionPoint(t *testing.T, env ...string) *pdp {
	t.Helper()
	s := serve(t, t.TempDir(), append(env, "TOLLGATE_ADMIN_PASSWORD="+adminPassword)...)
	s.Token = s.Login(t, "admin", adminPassword).Str("accessToken")
	s.Post(t, "/v1/roles", object{"name": "searcher", "permissions": []string{"tollgate:authorize", "tollgate:explain"}})
	id := s.Post(t, "/v1/users", object{"username": "pep", "kind": "USER_KIND_SERVICE"}).Str("user", "id")
	s.Assign(t, "searcher", id)
	return &pdp{s, s.As(s.Post(t, "/v1/api-keys", object{"userId": id, "name": "pep"}).Str("secret"))}
}

// role makes a role of grants, each "permission" or "permission if condition".
func (p *pdp) role(t *testing.T, name string, grants ...string) {
	t.Helper()
	list := make([]object, len(grants))
	for i, text := range grants {
		permission, condition, _ := strings.Cut(text, " if ")
		list[i] = object{"permission": permission, "condition": condition}
	}
	p.Post(t, "/v1/roles", object{"name": name, "grants": list})
}

// user makes a person who holds roles, with attributes.
func (p *pdp) user(t *testing.T, name string, attributes object, roles ...string) (id string) {
	t.Helper()
	id = p.Post(t, "/v1/users", object{"username": name, "roles": roles}).Str("user", "id")
	if attributes != nil {
		p.Patch(t, "/v1/users/"+id, object{"attributes": attributes})
	}
	return id
}

// asks posts a question, a JSON text or a value, that must be answered.
func (p *pdp) asks(t *testing.T, path string, body any) apitest.Answer {
	t.Helper()
	return p.pep.Call(t, "POST", path, body).Want(t, 200)
}

// decides is the decision about a question.
func (p *pdp) decides(t *testing.T, body any) bool {
	t.Helper()
	decision, ok := p.asks(t, evaluation, body).At("decision").(bool)
	if !ok {
		t.Fatalf("%v: no decision", body)
	}
	return decision
}

// decisions are those of a batch, as "+-".
func decisions(a apitest.Answer) string {
	var all strings.Builder
	for _, one := range a.List("evaluations") {
		switch one["decision"] {
		case true:
			all.WriteByte('+')
		case false:
			all.WriteByte('-')
		default:
			all.WriteByte('?')
		}
	}
	return all.String()
}

// entity is a subject or a resource written as "type/id", with properties.
func entity(text string, properties object) object {
	kind, id, _ := strings.Cut(text, "/")
	e := object{"type": kind, "id": id}
	if properties != nil {
		e["properties"] = properties
	}
	return e
}

// about is a question written as "alice read record/record-1".
func about(text string) object {
	var subject, action, resource string
	if n, err := fmt.Sscan(text, &subject, &action, &resource); n != 3 {
		panic(err)
	}
	return object{"subject": entity("user/"+subject, nil), "action": object{"name": action}, "resource": entity(resource, nil)}
}

// named are the results of a search, by name or id, each page read.
func (p *pdp) named(t *testing.T, path string, body object) string {
	t.Helper()
	var all []string
	for page := (object{}); ; {
		if len(page) > 0 {
			body["page"] = page
		}
		a := p.asks(t, path, body)
		if !strings.HasPrefix(string(a.Raw), `{"page":`) {
			t.Fatalf("the page is not the first member: %s", a.Raw)
		}
		for _, r := range a.List("results") {
			if name, ok := r["name"].(string); ok {
				all = append(all, name)
			} else {
				all = append(all, r["id"].(string))
			}
		}
		backendtest.Equal(t, a.At("page", "count"), any(float64(len(a.List("results")))), "count")
		next := a.Str("page", "next_token")
		if next == "" {
			return strings.Join(all, " ")
		}
		page["token"] = next
	}
}
