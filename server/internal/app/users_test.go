package app

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestListUsersFilters: lists by prefix and state are whole over their pages, in
// the order of names, and are read by an index.
func TestListUsersFilters(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		admin := i.As(i.admin)
		for _, name := range []string{"user-10", "user_10", "user2", "USER1", "use", "user", "vuser", "usér"} {
			id := admin.Post(t, "/v1/users", apitest.Object{"username": name}).Str("user", "id")
			if strings.HasSuffix(name, "0") {
				admin.Patch(t, "/v1/users/"+id, apitest.Object{"disabled": true})
			}
		}
		for query, want := range map[string][]string{
			"usernamePrefix=user":                {"user", "user-10", "user1", "user2", "user_10"},
			"usernamePrefix=USER":                {"user", "user-10", "user1", "user2", "user_10"},
			"usernamePrefix=user&disabled=true":  {"user-10", "user_10"},
			"usernamePrefix=user&disabled=false": {"user", "user1", "user2"},
			"usernamePrefix=us%C3%A9":            {"usér"},
			"usernamePrefix=x":                   nil,
			"disabled=true":                      {"user-10", "user_10"},
			"disabled=false":                     {"admin", "user2", "user1", "use", "user", "vuser", "usér"},
			"username=User1&disabled=false":      {"user1"},
			"username=user1&disabled=true":       nil,
		} {
			var got []string
			for token, more := "", true; more; more = token != "" {
				page := admin.Get(t, "/v1/users?pageSize=2&"+query+"&pageToken="+url.QueryEscape(token))
				for _, u := range page.List("users") {
					got = append(got, u["username"].(string))
				}
				token = page.Str("nextPageToken")
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", query, got, want)
			}
		}
		first := admin.Get(t, "/v1/users?pageSize=2&usernamePrefix=user").Str("nextPageToken")
		for _, query := range []string{
			"usernamePrefix=user&username=user", "usernamePrefix=two%20words",
			"usernamePrefix=use&pageToken=" + url.QueryEscape(first), "disabled=true&pageToken=" + url.QueryEscape(first),
		} {
			admin.Call(t, "GET", "/v1/users?"+query, nil).Want(t, http.StatusBadRequest)
		}
		fillUsers(t, i.db)
		names := map[database.Dialect]string{database.PostgreSQL: "users_username_key", database.SQLite: "sqlite_autoindex_users_2"}
		for _, c := range []struct{ where, index string }{
			{"username > 'u' AND username >= 'u' AND username < 'v' ORDER BY username LIMIT 3", names[i.db.Dialect]},
			{"id > 'a' AND disabled_at IS NOT NULL ORDER BY id LIMIT 3", "users_disabled"},
		} {
			if plan := queryPlan(t, i.db, "SELECT id FROM users WHERE "+c.where); !strings.Contains(plan, c.index) {
				t.Errorf("%s: %s", c.where, plan)
			}
		}
	})
}

// fillUsers makes the table of users one for which an index is worth it.
func fillUsers(t *testing.T, db *database.DB) {
	t.Helper()
	for _, statement := range []string{
		`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
			INSERT INTO users (id, username, kind, created_at, updated_at)
			SELECT 'id-' || CAST(i AS TEXT), 'many-' || CAST(i AS TEXT), 'person', 1, 1 FROM n`,
		"ANALYZE users",
	} {
		_, err := db.Exec(t.Context(), statement)
		backendtest.Must(t, err)
	}
}

// queryPlan is how the database runs a query.
func queryPlan(t *testing.T, db *database.DB, query string) string {
	t.Helper()
	var lines []string
	if db.Dialect == database.PostgreSQL {
		backendtest.Must(t, db.Select(t.Context(), &lines, "EXPLAIN "+query))
		return strings.Join(lines, "\n")
	}
	var steps []struct {
		ID, Parent, NotUsed int
		Detail              string
	}
	backendtest.Must(t, db.Select(t.Context(), &steps, "EXPLAIN QUERY PLAN "+query))
	for _, step := range steps {
		lines = append(lines, step.Detail)
	}
	return strings.Join(lines, "\n")
}

// TestCreateUserWithRoles: a user begins with roles that the caller may give, or
// is not made.
func TestCreateUserWithRoles(t *testing.T) {
	i := startEmbedded(t)
	admin := i.As(i.admin)
	admin.Post(t, "/v1/roles", apitest.Object{"name": "clerk", "permissions": []string{"orders:read"}})
	create := func(name string, roles ...string) apitest.Object {
		return apitest.Object{"username": name, "password": "a password of " + name, "roles": roles}
	}
	made := admin.Post(t, "/v1/users", create("ann", "clerk", "auditor"))
	if got := fmt.Sprint(made.At("user", "roles")); got != "[auditor clerk]" {
		t.Errorf("ann holds %s", got)
	}
	id := made.Str("user", "id")
	for _, action := range []string{"user.create", "role.assign"} {
		n := 0
		for _, e := range admin.Get(t, "/v1/audit/events?action="+action).List("events") {
			if e["resource"] == "users/"+id || apitest.Dig(e, "details", "user_id") == id {
				n++
			}
		}
		if want := map[string]int{"user.create": 1, "role.assign": 2}[action]; n != want {
			t.Errorf("%d events %s, want %d", n, action, want)
		}
	}

	_, users := i.newUser(t, "personnel", "tollgate:users:write", "orders:read")
	_, both := i.newUser(t, "manager", "tollgate:users:write", "tollgate:roles:write", "orders:read")
	scoped := i.As(both)
	for who, c := range map[string]struct {
		token string
		roles []string
		want  int
	}{
		"without roles":                 {users, nil, http.StatusOK},
		"without tollgate:roles:write":  {users, []string{"clerk"}, http.StatusForbidden},
		"who holds what clerks do":      {scoped.Token, []string{"clerk"}, http.StatusOK},
		"who does not hold all of both": {scoped.Token, []string{"clerk", "auditor"}, http.StatusForbidden},
		"of a role that is not there":   {i.admin, []string{"clerk", "clark"}, http.StatusNotFound},
	} {
		name := strings.ReplaceAll(who, " ", "-")
		name = strings.ReplaceAll(name, ":", "-")
		i.As(c.token).Call(t, "POST", "/v1/users", create(name, c.roles...)).Want(t, c.want)
		if n := len(admin.Get(t, "/v1/users?username="+name).List("users")); (n == 1) != (c.want == http.StatusOK) {
			t.Errorf("%s: answered %d, and %d users of that name", who, c.want, n)
		}
	}
}

// TestCreateUserPasswordChange: a first password can be for choosing another.
func TestCreateUserPasswordChange(t *testing.T) {
	i := startEmbedded(t)
	admin := i.As(i.admin)
	made := admin.Post(t, "/v1/users", apitest.Object{
		"username": "ann", "password": "a password of ann", "passwordChangeRequired": true,
	})
	if made.At("user", "passwordChangeRequired") != true {
		t.Errorf("made %s", made.Raw)
	}
	login := i.Login(t, "ann", "a password of ann")
	i.As(login.Str("accessToken")).Call(t, "GET", "/v1/users/"+made.Str("user", "id"), nil).Want(t, http.StatusForbidden)
	i.ChangePassword(t, login, "a password of ann", "another password")
	i.Login(t, "ann", "another password")
	admin.Call(t, "POST", "/v1/users", apitest.Object{"username": "bob", "passwordChangeRequired": true}).Want(t, http.StatusBadRequest)
}

// TestUserUpdateEvent: the event says what was changed, and from what.
func TestUserUpdateEvent(t *testing.T) {
	i := startEmbedded(t)
	admin := i.As(i.admin)
	id := admin.NewUser(t, "ann", "a password of ann")
	admin.Patch(t, "/v1/users/"+id, apitest.Object{"username": "Anna", "displayName": "Anna A."})
	admin.Patch(t, "/v1/users/"+id, apitest.Object{"disabled": true})
	events := admin.Get(t, "/v1/audit/events?action=user.update").List("events")
	for n, want := range []map[string]any{
		{"disabled": "true", "disabled_before": "false"},
		{"username": "anna", "username_before": "ann", "display_name": "Anna A.", "display_name_before": ""},
	} {
		if got := events[n]["details"]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("details %v, want %v", got, want)
		}
	}
}
