package app

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/contract"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var pathVariable = regexp.MustCompile(`\{([^}]*)\}`)

// rest is the REST route of an RPC; body says whether it takes one.
func rest(m protoreflect.MethodDescriptor) (verb, path string, body bool) {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get, false
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete, false
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post, true
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put, true
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch, true
	}
	return "", "", false
}

// TestQueryNeverNamesAPathVariable walks every REST route with a variable in
// its path: the query cannot say another value for it, however it is spelt.
func TestQueryNeverNamesAPathVariable(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	routes := 0
	for _, m := range contract.Methods() {
		verb, path, body := rest(m)
		for _, variable := range pathVariable.FindAllStringSubmatch(path, -1) {
			routes++
			var field protoreflect.FieldDescriptor
			for in, names := m.Input(), strings.Split(variable[1], "."); in != nil && len(names) > 0; names = names[1:] {
				if field = in.Fields().ByName(protoreflect.Name(names[0])); field == nil {
					break
				}
				in = field.Message()
			}
			if field == nil {
				t.Fatalf("%s: %s is no field of its message", m.FullName(), variable[1])
			}
			var sent any
			if body {
				sent = map[string]any{}
			}
			at := pathVariable.ReplaceAllString(path, i.user)
			for _, name := range []string{string(field.Name()), field.JSONName(), fmt.Sprintf("%%%02x%s", field.Name()[0], field.Name()[1:]), string(field.Name()) + ".x"} {
				for _, query := range []string{name + "=other", name, name + "=" + i.user, "page_size=1&" + name + "=a&" + name + "=b"} {
					a := i.call(t, verb, at+"?"+query, i.admin, sent)
					if a.Status != http.StatusBadRequest {
						t.Errorf("%s %s?%s: %d %s", verb, path, query, a.Status, a.Raw)
					}
				}
			}
		}
	}
	if routes < 20 {
		t.Errorf("found only %d variables", routes)
	}
	// The first finding: who is in the path is there, and so is who is not.
	id, _ := i.newUser(t, "in-the-query")
	a := i.call(t, "DELETE", "/v1/users/"+i.user+"?id="+id, i.admin, nil).Want(t, http.StatusBadRequest)
	if want := "id: is in the path; leave it out of the query"; a.Str("message") != want {
		t.Errorf("message %q, want %q", a.Str("message"), want)
	}
	// A slash that is encoded is part of a segment.
	i.call(t, "DELETE", "/v1/users%2F"+i.user+"?id="+id, i.admin, nil).Want(t, http.StatusNotFound)
	i.call(t, "GET", "/v1/users/"+id, i.admin, nil).Want(t, http.StatusOK)
}

// TestPathsAndQueries: what is not clear in a query is refused; a path that is
// nearly one of ours is unknown, and not redirected.
func TestPathsAndQueries(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	for _, c := range []struct {
		method string
		status int
		reason string
		paths  []string
	}{
		{"GET", 400, "", []string{
			"/v1/users?pageSize=1&pageSize=2", "/v1/users?pageSize=1&page_size=2", "/v1/users?pageSize=1;page_size=2",
			"/v1/users?username=%zz", "/v1/users?pageSize=1&%=2", "/v1/users?unknown=1", "/v1/users?page_size.x=1",
			"/v1/audit/events?after=2030-01-01T00:00:00Z&after.seconds=1",
			"/v1/audit/events/watch?actor=a&actor=b", "/v1/audit/events/watch?actor=%zz",
			"/v1/audit/events?action=%ff.*", "/v1/audit/events?%ff=1", "/v1/roles/%ff", "/v1/audit/tlog/tile/%ff",
		}},
		{"PATCH", 400, "", []string{"/v1/nowhere?id=1"}},
		{"GET", 200, "", []string{
			"/v1/users?pageSize=1", "/v1/users?page_size=1&username=admin", "/v1/users?", "/v1/api-keys?user_id=" + i.user,
			"/v1/audit/events?after=2030-01-01T00:00:00Z&before=2031-01-01T00:00:00Z&outcome=OUTCOME_SUCCESS",
			"/v1/users/" + i.user + "/sessions?pageSize=1",
		}},
		{"GET", 404, "UNKNOWN_PATH", []string{
			"/v1/nowhere?id=1", "//v1/users", "/v1//users", "/v1/../v1/users", "/v1/./users", "/v1", "/v1/users/", "/v1/roles/", "/tollgate.v1.AuthService",
		}},
	} {
		for _, path := range c.paths {
			a := i.call(t, c.method, path, i.admin, nil)
			if a.Status != c.status || c.reason != "" && a.Reason() != c.reason || a.Header.Get("Location") != "" || (c.status == 400) != (a.Str("code") == "invalid_argument") {
				t.Errorf("%s %s: %d %v %s", c.method, path, a.Status, a.Header, a.Raw)
			}
		}
	}
}

func TestTypesOfJSON(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	for contentType, status := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "application/json; charset=UTF-8": 200,
		"application/json;charset=utf-8": 200, `application/json; charset="utf-8"`: 200, "APPLICATION/JSON": 200, "application/json;": 200,
		"application/json; charset=latin1": 415, "application/json; version=2": 415, "application/json, text/plain": 415,
		"text/json": 415, "application/problem+json": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415,
	} {
		if a := i.send(t, "POST", "/v1/limits/check", contentType, "{}"); (a.Status == 415) != (status == 415) {
			t.Errorf("%q: %d, want %d: %s", contentType, a.Status, status, a.Raw)
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	for path, status := range map[string]int{
		"/v1/roles": 200, "/v1/auth/whoami": 200, "/v1/roles/nobody": 404, "/v1/users?pageSize=no": 400, "/v1/auth/login": 405, "/v1/nothing": 404,
	} {
		get, head := i.call(t, "GET", path, i.admin, nil), i.call(t, "HEAD", path, i.admin, nil)
		if get.Status != status || head.Status != status || len(head.Raw) > 0 ||
			head.Header.Get("Content-Type") != get.Header.Get("Content-Type") || head.Header.Get("Content-Length") == "0" {
			t.Errorf("%s: GET %d, HEAD %d %v %q", path, get.Status, head.Status, head.Header, head.Raw)
		}
	}
	i.call(t, "HEAD", "/v1/roles", "", nil).Want(t, http.StatusUnauthorized)
}
