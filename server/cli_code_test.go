package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"go.yaml.in/yaml/v3"
)

// richAccess is a file with something of everything.
const richAccess = `
roles:
  - name: boss
    description: "Above:\n- clerks #1"
    inherits: [editor, clerk]
    permissions: ["orders:*"]
  - name: clerk
    permissions: [orders:write, orders:read]
  - name: editor
    inherits: [clerk]
    grants:
      - permission: documents:write
        condition: |-
          resource.attributes.owner == principal.username
            && ip != ''
        description: owners write
      - {permission: documents:delete, effect: deny}
      - {permission: documents:print, effect: EFFECT_ALLOW}
limits:
  - {name: orders, subject: user, permission: "orders:*", rate: 100, period: 1m, overrides: [{key: mia, rate: 500, burst: 700}]}
  - {name: quota, subject: custom, contextKey: tenant, permission: "orders:*", rate: 100000, algorithm: calendar, calendar: month, timeZone: Europe/Berlin,
     overrides: [{key: "acme*", rate: 7}, {key: acme, rate: 9}]}
  - {name: addresses, subject: ip, permission: "documents:*", rate: 10, period: 1s, mode: shadow, outage: closed, overrides: [{key: "192.0.2.1/24", rate: 50}, {key: "2001:db8::1", rate: 5}]}
  - {name: leased, subject: global, permission: "orders:*", rate: 1000, period: 1s, burst: 5000, lease: true, leaseTime: 50ms}
  - {name: windowed, subject: api_key, permission: "orders:*", rate: 10, period: 90s, algorithm: sliding_window}
routes:
  - {name: order, host: Orders.example.com, methods: [PUT, GET], path: "/orders/{id}/", permission: orders:read, resource: "orders/{id}", cost: 2, context: {tenant: acme}}
  - {name: health, path: /health, public: true}
  - {name: me, path: "/me/{rest...}", authenticated: true, upstream: "http://orders:8080"}
recordings:
  - {name: orders, permission: "orders:*", description: for audits}
  - {name: some, permission: "documents:*", sample: 2500}
assignments:
  - user: mia
    roles: [clerk, {role: editor, expiresAt: 2099-01-01T00:00:00Z}]
`

// file writes a file into the shell's home folder.
func (s *shell) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.home, name)
	backendtest.Must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	backendtest.Must(t, os.WriteFile(path, []byte(text), 0o600))
	return name
}

// TestCLIAccess checks that a file is applied, that a plan has nothing left then, that
// an export says the same, also at another server, and that its schema takes it.
func TestCLIAccess(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	s.NewUser(t, "mia", "a password of mia")
	s.Post(t, "/v1/roles", object{"name": "other", "permissions": []string{"a:b"}})
	sh.file(t, "access.yaml", richAccess)
	code, out, stderr := sh.try(t, "", "plan", "-f", "access.yaml")
	if code != 2 {
		t.Fatalf("exit code %d, %s%s", code, out, stderr)
	}
	contains(t, out, "+ role boss\n", "    inherits:\n      - clerk\n", "+ limit quota\n", "+ route order\n", "+ recording orders\n", "+ assignment mia has editor\n", "15 to create, 0 to change, 0 to remove")
	if strings.Index(out, "role clerk") > strings.Index(out, "role editor") || strings.Index(out, "role editor") > strings.Index(out, "role boss") {
		t.Errorf("inherited roles are not first: %s", out)
	}
	contains(t, sh.do(t, "apply", "-f", "access.yaml"), "[1/15] created role clerk\n", "[15/15] created assignment mia has editor\n")
	contains(t, sh.do(t, "plan", "-f", "access.yaml"), "Nothing would change.")
	contains(t, sh.do(t, "apply", "-f", "access.yaml"), "Nothing to change.")
	s.Get(t, "/v1/roles/other") // what the file does not name stays

	exported := sh.do(t, "export", "--assignments")
	sh.file(t, "export.yaml", exported)
	contains(t, sh.do(t, "plan", "-f", "export.yaml", "--prune"), "Nothing would change.")
	contains(t, exported, "key: mia", "timeZone: Europe/Berlin", "effect: deny", "condition: |-")
	wantSchema(t, sh, exported)
	wantSchema(t, sh, richAccess)

	// At another server it makes the same.
	next, there := serveShell(t)
	next.NewUser(t, "mia", "a password of mia")
	there.file(t, "export.yaml", exported)
	there.do(t, "apply", "-f", "export.yaml")
	if got := there.do(t, "export", "--assignments"); got != exported {
		t.Errorf("there is %s\nwant %s", got, exported)
	}

	// A change is shown field by field, and is all that is done.
	changed := strings.NewReplacer("rate: 100,", "rate: 120,", "orders:write, orders:read", "orders:read, orders:print", "public: true", "authenticated: true", "sample: 2500", "sample: 5000").Replace(richAccess)
	sh.file(t, "access.yaml", changed)
	code, out, _ = sh.try(t, "", "plan", "-f", "access.yaml")
	contains(t, out, "~ role clerk\n    permissions:\n      - orders:write\n      + orders:print\n", "~ limit orders\n    rate: 100 -> 120\n    burst: 100 -> 120\n", "public: true -> false", "~ recording some\n    sample: 2500 -> 5000\n", "0 to create, 4 to change, 0 to remove")
	if code != 2 {
		t.Errorf("exit code %d", code)
	}
	sh.do(t, "apply", "-f", "access.yaml")
	contains(t, sh.do(t, "plan", "-f", "access.yaml"), "Nothing would change.")
	contains(t, sh.do(t, "limits", "get", "quota"), "100000/month Europe/Berlin")
}

// wantSchema checks that the schema takes a file.
func wantSchema(t *testing.T, sh *shell, text string) {
	t.Helper()
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(sh.do(t, "schema")))
	backendtest.Must(t, err)
	compiler := jsonschema.NewCompiler()
	backendtest.Must(t, compiler.AddResource("access.schema.json", schema))
	compiled, err := compiler.Compile("access.schema.json")
	backendtest.Must(t, err)
	var node yaml.Node
	backendtest.Must(t, yaml.Unmarshal([]byte(text), &node))
	if err := compiled.Validate(plainYAML(t, &node)); err != nil {
		t.Errorf("the schema refuses a good file: %v", err)
	}
	if compiled.Validate(map[string]any{"roles": []any{map[string]any{"name": "A", "perissions": []any{}}}}) == nil {
		t.Error("the schema takes a wrong file")
	}
}

// plainYAML is a document as JSON has it.
func plainYAML(t *testing.T, n *yaml.Node) any {
	t.Helper()
	switch n.Kind {
	case yaml.DocumentNode:
		return plainYAML(t, n.Content[0])
	case yaml.MappingNode:
		values := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			values[n.Content[i].Value] = plainYAML(t, n.Content[i+1])
		}
		return values
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			list = append(list, plainYAML(t, item))
		}
		return list
	}
	if n.ShortTag() == "!!timestamp" {
		return n.Value
	}
	var value any
	backendtest.Must(t, n.Decode(&value))
	return value
}

// TestCLIAccessStrict checks that what is wrong with a file is said with its place, and
// that nothing is done then.
func TestCLIAccessStrict(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	for text, want := range map[string]string{
		"roles:\n  - name: a\n    perissions: [x]\n":                                            "f.yaml:3:5: roles[0].perissions: is not known",
		"roles:\n  - name: a\n  - name: a\n":                                                    `f.yaml:3:5: roles[1]: "a" is there twice; the first is at f.yaml:2`,
		"roles:\n  - name: A\n":                                                                 "f.yaml:2:11: roles[0].name: must be a lower-case letter",
		"roles:\n  - name: a\n    permissions:\n      - 'a:*:b'\n":                              "f.yaml:4:9: roles[0].permissions[0]: must be a permission pattern",
		"roles:\n  - name: a\n    grants:\n      - permission: a:b\n        condition: 'ipp'\n": "f.yaml:5:20: roles[0].grants[0].condition:",
		"role: []\n":   "f.yaml:1:1: role: is not known",
		"roles: [1]\n": "f.yaml:1:9: roles[0]: must be an object",
		"limits:\n  - {name: a, subject: users, rate: 1}\n":                     "f.yaml:2:24: limits[0].subject: must be one of user,",
		"limits:\n  - {name: a, subject: user}\n":                               "f.yaml:2:5: limits[0].rate",
		"assignments:\n  - {user: nobody, roles: [auditor]}\n":                  `there is no user "nobody"`,
		"assignments:\n  - {user: admin, roles: [auditor, auditor]}\n":          "f.yaml:2:36: assignments[0].roles[1]: is there twice",
		"roles:\n  - {name: a, inherits: [b]}\n  - {name: b, inherits: [a]}\n":  "inherits itself",
		"roles:\n  - {name: a, inherits: [nothing]}\n":                          "neither in the file nor",
		"roles:\n  - {name: auditor}\n":                                         "came with Tollgate",
		"limits:\n  - {name: sign-in-per-ip, subject: user, rate: 1}\n":         "subject cannot be changed",
		"routes:\n  - {name: a, path: '/a', public: true, authenticated: true}": "f.yaml:2:",
		"": "is empty", "roles: [\n": "f.yaml:",
	} {
		sh.file(t, "f.yaml", text)
		for _, command := range []string{"plan", "apply"} {
			sh.fails(t, 1, want, command, "-f", "f.yaml")
		}
	}
	sh.fails(t, 1, "no such file", "plan", "-f", "nothing.yaml")
	sh.fails(t, 1, "--file", "plan")
	if n := len(s.Get(t, "/v1/roles").List("roles")); n != 3 {
		t.Errorf("there are %d roles", n)
	}

	// Files together are one.
	backendtest.Must(t, os.Mkdir(filepath.Join(sh.home, "all"), 0o700))
	sh.file(t, "all/1.yaml", "roles: [{name: one, inherits: [two]}]\n")
	sh.file(t, "all/2.yml", "roles: [{name: two}]\n")
	sh.do(t, "apply", "-f", "all")
	sh.file(t, "all/3.yaml", "roles: [{name: two}]\n")
	sh.fails(t, 1, `"two" is there twice; the first is at all/2.yml:1`, "plan", "-f", "all")
	if code, out, _ := sh.try(t, "roles: [{name: three}]\n", "plan", "-f", "-"); code != 2 || !strings.Contains(out, "+ role three") {
		t.Errorf("from standard input: exit code %d, %s", code, out)
	}
}

// TestCLIPrune checks that only --prune removes, only what it may, and after it asked
// with numbers.
func TestCLIPrune(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	s.NewUser(t, "mia", "a password of mia", "auditor")
	sh.file(t, "access.yaml", richAccess)
	sh.do(t, "apply", "-f", "access.yaml")
	less := sh.file(t, "less.yaml", `
roles: [{name: clerk, permissions: [orders:read]}]
routes:
  - {name: renamed, host: orders.example.com, methods: [PUT, GET], path: "/orders/{id}", permission: orders:read}
  - {name: health, path: "/me/{rest...}", authenticated: true}
  - {name: me, path: /health, public: true}
assignments: [{user: mia, roles: [clerk]}]
`)
	contains(t, sh.do(t, "roles", "list"), "boss")
	code, out, stderr := sh.try(t, "", "plan", "-f", less, "--prune")
	if code != 2 {
		t.Fatalf("exit code %d, %s%s", code, out, stderr)
	}
	contains(t, out, "- role boss  (users who hold it: 0)", "- role editor  (users who hold it: 1)", "- route order", "- assignment mia has auditor", "- assignment mia has editor")
	if strings.Contains(out, "limit") || strings.Contains(out, "administrator") || strings.Index(out, "- role boss") > strings.Index(out, "- role editor") {
		t.Errorf("the plan is %s", out)
	}
	sh.fails(t, 1, "remove 2 of the roles (held 1 times), 1 of the routes, 2 of the assignments; repeat it with --yes", "apply", "-f", less, "--prune")
	sh.do(t, "apply", "-f", less, "--prune", "--yes")
	contains(t, sh.do(t, "plan", "-f", less, "--prune"), "Nothing would change.")
	for path, there := range map[string]bool{
		"/v1/roles/clerk": true, "/v1/roles/boss": false, "/v1/roles/editor": false, "/v1/roles/auditor": true, "/v1/roles/administrator": true,
		"/v1/limits/quota": true, "/v1/limits/sign-in-per-ip": true, "/v1/routes/order": false, "/v1/routes/renamed": true,
	} {
		if status := s.Call(t, "GET", path, nil).Status; (status == 200) != there {
			t.Errorf("%s: status %d", path, status)
		}
	}
	if who := s.Get(t, "/v1/users?username=mia").List("users"); fmt.Sprint(who[0]["roles"]) != "[clerk]" {
		t.Errorf("mia holds %v", who[0]["roles"])
	}
	sh.file(t, "none.yaml", "limits: []\n")
	sh.do(t, "apply", "-f", "none.yaml", "--prune", "--yes")
	for _, l := range s.Get(t, "/v1/limits").List("limits") {
		if l["builtin"] != true {
			t.Errorf("%v is left", l["name"])
		}
	}
}
