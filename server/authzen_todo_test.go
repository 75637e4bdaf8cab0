package main_test

import (
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestAuthZENTodo asks the decisions of AuthZEN's todo scenario: five people whose
// addresses and roles Tollgate knows, and todos whose owner the question says. The
// subjects are opaque ids of a sign-in service.
func TestAuthZENTodo(t *testing.T) {
	t.Parallel()
	p := decisionPoint(t)
	const own = "resource.attributes.ownerID == principal.attributes.email"
	p.role(t, "viewer", "user:can_read_user", "todo:can_read_todos")
	p.role(t, "editor", "todo:can_create_todo", "todo:can_update_todo if "+own, "todo:can_delete_todo if "+own)
	p.role(t, "admin", "todo:can_create_todo", "todo:can_delete_todo")
	p.role(t, "evil-genius", "todo:can_update_todo")
	people := []struct {
		email string
		roles []string
		want  string // of a question below each: read a user, oneself, read todos, create, update Rick's, one's own, delete Rick's, one's own
	}{
		{"rick@the-citadel.com", []string{"viewer", "admin", "evil-genius"}, "++++++++"},
		{"morty@the-citadel.com", []string{"viewer", "editor"}, "++++-+-+"},
		{"summer@the-smiths.com", []string{"viewer", "editor"}, "++++-+-+"},
		{"beth@the-smiths.com", []string{"viewer"}, "+++-----"},
		{"jerry@the-smiths.com", []string{"viewer"}, "+++-----"},
	}
	subject := func(i int) object { return entity("user/CiRmZD"+string("AEIMQ"[i])+"2MTRkMy1jMzlhLTQ3ODEtYjdiZA", nil) }
	todo := func(email string) object {
		return entity("todo/7240d0db-8ff0-41ec-98b2-34a096273b9f", object{"ownerID": email})
	}
	for i, who := range people {
		p.user(t, subject(i)["id"].(string), object{"email": who.email}, who.roles...)
	}
	const beth, rick = "beth@the-smiths.com", "rick@the-citadel.com"
	asked := 0
	for i, who := range people {
		other := who.email
		if i == 0 {
			other = "morty@the-citadel.com" // the owner of the other todo that Rick is asked about
		}
		for n, q := range []struct {
			action   string
			resource object
		}{
			{"can_read_user", entity("user/"+beth, nil)}, {"can_read_user", entity("user/"+who.email, nil)},
			{"can_read_todos", entity("todo/todo-1", nil)}, {"can_create_todo", entity("todo/todo-1", nil)},
			{"can_update_todo", todo(rick)}, {"can_update_todo", todo(other)},
			{"can_delete_todo", todo(rick)}, {"can_delete_todo", todo(other)},
		} {
			asked++
			question := object{"subject": subject(i), "action": object{"name": q.action}, "resource": q.resource}
			if got, want := p.decides(t, question), who.want[n] == '+'; got != want {
				t.Errorf("%s %s %v: %t, want %t", who.email, q.action, q.resource, got, want)
			}
		}
	}
	backendtest.Equal(t, asked, 40, "decisions asked")
	for _, c := range []struct {
		who   int
		owner string
		want  string
	}{{0, "jerry@the-smiths.com", "++"}, {1, "morty@the-citadel.com", "-+"}, {4, "jerry@the-smiths.com", "--"}} {
		a := p.asks(t, evaluations, object{
			"subject": subject(c.who), "action": object{"name": "can_update_todo"},
			"evaluations": []any{object{"resource": todo(rick)}, object{"resource": todo(c.owner)}},
		})
		backendtest.Equal(t, decisions(a), c.want, "%s", people[c.who].email)
	}
}
