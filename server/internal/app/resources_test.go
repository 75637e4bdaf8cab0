package app

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// TestResources: the registry over REST, from the first put to removal.
func TestResources(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	admin := i.As(i.admin)
	made := admin.Put(t, "/v1/resources/doc/42", apitest.Object{"attributes": apitest.Object{"owner": "ann", "tags": []string{"a"}, "level": 3, "old": nil}})
	if made.At("created") != true || made.Str("revision") == "" || made.Str("resource", "createdAt") == "" || made.Str("resource", "attributes", "owner") != "ann" {
		t.Errorf("made %v", made.Body)
	}
	changed := admin.Put(t, "/v1/resources/doc/42", apitest.Object{"attributes": apitest.Object{"owner": "bob"}})
	if changed.At("created") != false {
		t.Errorf("changed %v", changed.Body)
	}
	if got := admin.Get(t, "/v1/resources/doc/42").At("resource", "attributes"); !reflect.DeepEqual(got, apitest.Object{"owner": "bob"}) {
		t.Errorf("attributes %v", got)
	}
	deep := any(1)
	for range 8 {
		deep = []any{deep}
	}
	for what, c := range map[string]struct {
		answer apitest.Answer
		status int
		reason string
		says   string
	}{
		"no attributes":      {admin.Call(t, "PUT", "/v1/resources/doc/1", apitest.Object{}), 400, "INVALID_FIELD", "attributes"},
		"null":               {admin.Call(t, "PUT", "/v1/resources/doc/1", apitest.Object{"attributes": nil}), 400, "INVALID_FIELD", "attributes"},
		"a list":             {admin.Call(t, "PUT", "/v1/resources/doc/1", apitest.Object{"attributes": []int{1}}), 400, "BAD_REQUEST", ""},
		"an unknown field":   {admin.Call(t, "PUT", "/v1/resources/doc/1", apitest.Object{"attribute": apitest.Object{}}), 400, "BAD_REQUEST", "attribute"},
		"too much":           {admin.Call(t, "PUT", "/v1/resources/doc/1", apitest.Object{"attributes": apitest.Object{"a": strings.Repeat("x", 8<<10)}}), 400, "INVALID_FIELD", "8192"},
		"too deep":           {admin.Call(t, "PUT", "/v1/resources/doc/1", apitest.Object{"attributes": apitest.Object{"a": deep}}), 400, "INVALID_FIELD", "deep"},
		"a type in capitals": {admin.Call(t, "PUT", "/v1/resources/Doc/1", apitest.Object{"attributes": apitest.Object{}}), 400, "INVALID_FIELD", "type"},
		"a long id":          {admin.Call(t, "PUT", "/v1/resources/doc/"+strings.Repeat("a", 192), apitest.Object{"attributes": apitest.Object{}}), 400, "INVALID_FIELD", "191"},
		"a control char":     {admin.Call(t, "PUT", "/v1/resources/doc/%00", apitest.Object{"attributes": apitest.Object{}}), 400, "INVALID_FIELD", "control"},
		"get nothing":        {admin.Call(t, "GET", "/v1/resources/doc/1", nil), 404, "RESOURCE_NOT_FOUND", "doc"},
		"delete nothing":     {admin.Call(t, "DELETE", "/v1/resources/doc/1", nil), 404, "RESOURCE_NOT_FOUND", "doc"},
		"a large page":       {admin.Call(t, "GET", "/v1/resources?pageSize=101", nil), 400, "INVALID_FIELD", "pageSize"},
	} {
		if c.answer.Status != c.status || c.reason != "" && c.answer.Reason() != c.reason || !strings.Contains(c.answer.Str("message"), c.says) {
			t.Errorf("%s: %d %s", what, c.answer.Status, c.answer.Raw)
		}
	}

	within := admin.Put(t, "/v1/resources/doc/path", apitest.Object{"id": "body", "attributes": apitest.Object{}})
	backendtest.Equal(t, within.Str("resource", "id"), "path", "id when the body says another")
	admin.Call(t, "DELETE", "/v1/resources/doc/path", nil).Want(t, http.StatusOK)

	// Every id that is not a path's own notation is the same over REST and elsewhere.
	for _, id := range []string{"a/b", "urn:doc:7", ":", "a:", "100%", "%2F", "%", "a b", "ü", "a?b#c"} {
		at := "/v1/resources/odd/" + url.PathEscape(id)
		backendtest.Equal(t, admin.Put(t, at, apitest.Object{"attributes": apitest.Object{"id": id}}).Str("resource", "id"), id, "id over REST")
		rpc := admin.Call(t, "POST", "/tollgate.v1.ResourcesService/GetResource", apitest.Object{"type": "odd", "id": id}).Want(t, http.StatusOK)
		backendtest.Equal(t, rpc.Str("resource", "attributes", "id"), id, "id over Connect")
		admin.Get(t, at)
		admin.Call(t, "DELETE", at, nil).Want(t, http.StatusOK)
	}
	for _, id := range []string{"..", ".", "a//b", "a/./b", "a/../b", "/"} {
		a := admin.Call(t, "GET", "/v1/resources/odd/"+url.PathEscape(id), nil)
		if a.Status != http.StatusNotFound || a.Header.Get("Location") != "" {
			t.Errorf("%q over REST: %d %v", id, a.Status, a.Header)
		}
		admin.Call(t, "POST", "/tollgate.v1.ResourcesService/PutResource", apitest.Object{"type": "odd", "id": id, "attributes": apitest.Object{}}).Want(t, http.StatusOK)
	}

	for n := range 3 {
		admin.Put(t, fmt.Sprintf("/v1/resources/list/%d", n), apitest.Object{"attributes": apitest.Object{}})
	}
	if list := admin.All(t, "/v1/resources?type=list&", "resources"); len(list) != 3 || list[2]["id"] != "2" {
		t.Errorf("list %v", list)
	}
	if list := admin.All(t, "/v1/resources?", "resources"); len(list) != 3+6+1 {
		t.Errorf("all %v", list)
	}

	_, reader := i.newUser(t, "reader", "tollgate:resources:read")
	_, writer := i.newUser(t, "writer", "tollgate:resources:write")
	i.As(reader).Get(t, "/v1/resources/doc/42")
	i.As(reader).Get(t, "/v1/resources")
	i.As(reader).Call(t, "PUT", "/v1/resources/doc/42", apitest.Object{"attributes": apitest.Object{}}).Want(t, http.StatusForbidden)
	i.As(reader).Call(t, "DELETE", "/v1/resources/doc/42", nil).Want(t, http.StatusForbidden)
	i.As(writer).Call(t, "GET", "/v1/resources/doc/42", nil).Want(t, http.StatusForbidden)
	i.As(writer).Put(t, "/v1/resources/doc/42", apitest.Object{"attributes": apitest.Object{"owner": "cid"}})
	i.As(writer).Call(t, "DELETE", "/v1/resources/doc/42", nil).Want(t, http.StatusOK)
	admin.Call(t, "GET", "/v1/resources/doc/42", nil).Want(t, http.StatusNotFound)
	if events := admin.Events(t, "resource=resources/doc/42"); len(events) != 4 {
		t.Errorf("events %v", events)
	}
}

// TestAttributesInConditions: what conditions read of users and resources decides,
// end to end, and a change of it is in force on a second instance within a second.
func TestAttributesInConditions(t *testing.T) {
	t.Parallel()
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) {
		here := start(t, testConfig(address), clock.Real())
		there := start(t, testConfig(address), clock.Real())
		admin := here.As(here.admin)
		ann, bob := admin.NewUser(t, "ann", "a password of ann"), admin.NewUser(t, "bob", "a password of bob")
		admin.Post(t, "/v1/roles", apitest.Object{"name": "author", "grants": []apitest.Object{
			{"permission": "doc:write", "condition": "resource.attributes.owner == principal.id"},
			{"permission": "doc:read", "condition": "resource.attributes.department == principal.attributes.department"},
			{"permission": "doc:*", "effect": "EFFECT_DENY", "condition": "has(resource.attributes.locked) && resource.attributes.locked == true"},
		}})
		admin.Assign(t, "author", ann)
		admin.Assign(t, "author", bob)
		ask := func(user, permission, resource string, given apitest.Object) apitest.Object {
			request := apitest.Object{"userId": user, "permission": "doc:" + permission, "resource": resource}
			if given != nil {
				request["resourceAttributes"] = given
			}
			return request
		}
		want := func(user, permission, resource string, given apitest.Object, reason string) {
			t.Helper()
			here.wantDecision(t, fmt.Sprint(permission, resource, given), ask(user, permission, resource, given), reason)
		}
		soon := func(user, permission, resource, reason string) {
			t.Helper()
			want(user, permission, resource, nil, reason)
			apitest.Eventually(t, "the second instance decides "+reason, func() bool {
				_, got := there.authorize(t, ask(user, permission, resource, nil))
				return got == "REASON_"+reason
			})
		}
		put := func(id string, values apitest.Object) {
			admin.Put(t, "/v1/resources/doc/"+id, apitest.Object{"attributes": values})
		}
		describe := func(user string, values apitest.Object) {
			admin.Patch(t, "/v1/users/"+user, apitest.Object{"attributes": values})
		}

		soon(ann, "write", "doc/42", "CONDITION_FAILED") // nothing is known of it
		put("42", apitest.Object{"owner": ann, "department": "payroll"})
		soon(ann, "write", "doc/42", "OK")
		soon(bob, "write", "doc/42", "CONDITION_FALSE")
		want(ann, "write", "doc/43", nil, "CONDITION_FAILED")
		want(ann, "write", "folder/42", nil, "CONDITION_FAILED")
		want(ann, "write", "", nil, "CONDITION_FAILED")

		// What the request says wins, attribute by attribute.
		want(bob, "write", "doc/42", apitest.Object{"owner": bob}, "OK")
		want(ann, "write", "doc/42", apitest.Object{"owner": bob}, "CONDITION_FALSE")
		want(ann, "write", "doc/42", apitest.Object{"owner": nil}, "CONDITION_FALSE")
		want(ann, "write", "doc/42", apitest.Object{"locked": true}, "DENIED_BY_GRANT")
		want(ann, "write", "doc/42", apitest.Object{"department": "it"}, "OK")
		want(ann, "write", "doc/43", apitest.Object{"owner": ann}, "OK")

		soon(bob, "read", "doc/42", "CONDITION_FAILED")
		describe(bob, apitest.Object{"department": "payroll"})
		soon(bob, "read", "doc/42", "OK")
		describe(bob, apitest.Object{"department": "it"})
		soon(bob, "read", "doc/42", "CONDITION_FALSE")
		describe(bob, apitest.Object{})
		soon(bob, "read", "doc/42", "CONDITION_FAILED")

		put("42", apitest.Object{"owner": bob})
		soon(ann, "write", "doc/42", "CONDITION_FALSE")
		soon(bob, "write", "doc/42", "OK")
		put("42", apitest.Object{"owner": bob, "locked": true})
		soon(bob, "write", "doc/42", "DENIED_BY_GRANT")
		admin.Call(t, "DELETE", "/v1/resources/doc/42", nil).Want(t, http.StatusOK)
		soon(bob, "write", "doc/42", "CONDITION_FAILED")
	})
}

// TestNobodyDescribesThemselfIntoARight: a limited administrator makes no condition
// true that allows more than they hold, by PATCH or with a key, for nobody.
func TestNobodyDescribesThemselfIntoARight(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		admin := i.As(i.admin)
		clerk, token := i.newUser(t, "clerk", "tollgate:users:write", "tollgate:users:read", "tollgate:keys:write")
		key := i.call(t, "POST", "/v1/api-keys", token, apitest.Object{"name": "k"}).Want(t, 200).Str("secret")
		other, _ := i.newUser(t, "other")
		admin.Post(t, "/v1/roles", apitest.Object{"name": "by-department", "grants": []apitest.Object{
			{"permission": "payroll:read", "condition": `principal.attributes.department == "payroll"`},
		}})
		admin.Assign(t, "by-department", clerk)
		admin.Assign(t, "by-department", other)
		set := apitest.Object{"attributes": apitest.Object{"department": "payroll"}}
		for _, credential := range []string{token, key} {
			for _, user := range []string{clerk, other} {
				a := i.call(t, "PATCH", "/v1/users/"+user, credential, set)
				if a.Status != http.StatusForbidden || a.Reason() != "GRANT_EXCEEDS_OWN" {
					t.Errorf("%d %s", a.Status, a.Raw)
				}
				i.wantDecision(t, "payroll", apitest.Object{"userId": user, "permission": "payroll:read"}, "CONDITION_FAILED")
			}
		}
		// Attributes are no part of what people change of themselves.
		_, plain := i.newUser(t, "plain")
		me := i.call(t, "GET", "/v1/auth/whoami", plain, nil).Want(t, 200).Str("principal", "userId")
		i.call(t, "PATCH", "/v1/users/"+me, plain, set).Want(t, http.StatusForbidden)
		i.call(t, "PATCH", "/v1/users/"+clerk, token, apitest.Object{"displayName": "Clerk"}).Want(t, http.StatusOK)

		admin.Patch(t, "/v1/users/"+clerk, set)
		i.wantDecision(t, "payroll", apitest.Object{"userId": clerk, "permission": "payroll:read"}, "OK")
		if shown := i.call(t, "GET", "/v1/users/"+clerk, token, nil).Want(t, 200).Str("user", "attributes", "department"); shown != "payroll" {
			t.Errorf("shown %q", shown)
		}
	})
}
