package main_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"go.yaml.in/yaml/v3"
)

// TestCLIPlanJSON checks that a program gets a plan whole, in its order and with the same
// exit codes, that the API takes what it creates, and that YAML says the same.
func TestCLIPlanJSON(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	s.NewUser(t, "mia", "a password of mia")
	s.Post(t, "/v1/roles", object{"name": "clerk", "permissions": []string{"orders:write"}})
	s.Post(t, "/v1/roles", object{"name": "unwanted", "description": "red\u009b31m"})
	s.Post(t, "/v1/roles", object{"name": "unheld"})
	sh.do(t, "roles", "assign", "unwanted", "mia")
	sh.do(t, "limits", "create", "orders", "--subject", "user", "--rate", "100", "--period", "1m")
	sh.file(t, "access.yaml", `
roles:
  - {name: clerk, permissions: ["orders:read"]}
  - {name: editor, inherits: [clerk], grants: [{permission: "documents:write", condition: "1 < 2 && ip != ''"}]}
limits: [{name: orders, subject: user, rate: 120, period: 1m}]
routes: [{name: order, path: "/orders/{id}", permission: "orders:read"}]
recordings: [{name: orders, permission: "orders:*"}]
assignments: [{user: mia, roles: [clerk]}]
`)
	code, out, stderr := sh.try(t, "", "plan", "-f", "access.yaml", "--prune", "-o", "json")
	if code != 2 || stderr != "" || strings.Contains(out, "\u009b") {
		t.Fatalf("exit code %d, %s%s", code, out, stderr)
	}
	type change struct {
		Action, Kind, Name string
		Fields             []string
		Users              *int
		Before, After      map[string]any
	}
	var plan struct {
		Changes                []change
		Create, Change, Remove int
	}
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	backendtest.Must(t, decoder.Decode(&plan))
	var got []string
	byName := map[string]change{}
	for _, c := range plan.Changes {
		got = append(got, strings.Join(append([]string{c.Action, c.Kind, c.Name}, c.Fields...), " "))
		byName[c.Name] = c
		if (c.Before == nil) != (c.Action == "create") || (c.After == nil) != (c.Action == "remove") {
			t.Errorf("%s has before %v and after %v", c.Name, c.Before, c.After)
		}
	}
	if want := []string{
		"change role clerk permissions", "create role editor", "change limit orders rate burst", "create route order", "create recording orders",
		"create assignment mia has clerk", "remove assignment mia has unwanted", "remove role unwanted", "remove role unheld",
	}; !slices.Equal(got, want) || plan.Create != 4 || plan.Change != 2 || plan.Remove != 3 {
		t.Errorf("%d, %d, %d: %q\nwant %q", plan.Create, plan.Change, plan.Remove, got, want)
	}
	if a, b := byName["unwanted"].Users, byName["unheld"].Users; a == nil || *a != 1 || b == nil || *b != 0 {
		t.Errorf("holders: %v, %v", a, b)
	}
	backendtest.Equal(t, byName["unwanted"].Before["description"], any("red\u009b31m"), "a text that drives terminals")
	backendtest.Equal(t, byName["order"].After["path"], any("/orders/{id}"), "the path")
	s.Post(t, "/v1/roles", byName["editor"].After)

	_, text, _ := sh.try(t, "", "plan", "-f", "access.yaml", "--prune", "-o", "yaml")
	_, out, _ = sh.try(t, "", "plan", "-f", "access.yaml", "--prune", "-o", "json")
	var fromYAML, fromJSON any
	backendtest.Must(t, yaml.Unmarshal([]byte(text), &fromYAML))
	backendtest.Must(t, yaml.Unmarshal([]byte(out), &fromJSON))
	if !reflect.DeepEqual(fromYAML, fromJSON) {
		t.Errorf("in YAML it is %s\nin JSON %s", text, out)
	}

	sh.do(t, "apply", "-f", "access.yaml", "--prune", "--yes")
	backendtest.Equal(t, sh.do(t, "plan", "-f", "access.yaml", "--prune", "-o", "json"), "{\n  \"changes\": [],\n  \"create\": 0,\n  \"change\": 0,\n  \"remove\": 0\n}\n", "nothing to do")
	if code, out, _ := sh.try(t, "roles: [{nam: x}]", "plan", "-f", "-", "-o", "json"); code != 1 || out != "" {
		t.Errorf("a file that is wrong: exit code %d, %s", code, out)
	}
}
