package policytest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// read reads a file that must be right.
func read(t *testing.T, text string) *File {
	t.Helper()
	f, problems, err := Read("policy.yaml", strings.NewReader(text), false)
	backendtest.Must(t, err)
	for _, p := range problems {
		t.Fatal(p.In("policy.yaml"))
	}
	return f
}

// small is a file that is right but for what is put in its place.
const small = `roles:
  - name: reader
    permissions: [documents:read]
    ROLE
users:
  - name: mia
    roles: [reader]
    USER
resources:
  - type: documents
    id: plan
    RESOURCE
tests:
  - name: reads
    user: mia
    permission: documents:read
    expect: allow
    TEST
`

func smallWith(place, text string) string {
	file := strings.Replace(small, place, text, 1)
	for _, other := range []string{"ROLE", "USER", "RESOURCE", "TEST"} {
		file = strings.Replace(file, "    "+other+"\n", "", 1)
	}
	return file
}

func TestRight(t *testing.T) {
	t.Parallel()
	for place, texts := range map[string][]string{
		"none": {""},
		"ROLE": {"inherits: [auditor]", "grants: [{permission: 'documents:*', effect: EFFECT_DENY, condition: 'false', description: x}]", "description: '*'"},
		"USER": {"kind: service", "id: 7b0f2f1c-5d5b-4c39-9d6b-7d1d2b7f5f10", "attributes: {a: [1, 2.5, {b: null}], 'c d': yes, e: 2026-01-01}"},
		"TEST": {
			"reason: REASON_OK", "reason: ok", "scopes: ['*']", "ip: '2001:db8::1'", "context: {tenant: acme}", "resource: documents/plan",
			"resource_attributes: {a: 1}", "action_properties: {soft: true}", "now: '2026-08-03T09:00:00+02:00'", "now: 2026-08-03T09:00:00Z",
		},
	} {
		for _, text := range texts {
			f := read(t, smallWith(place, text))
			if len(f.Cases) != 1 || f.Cases[0].User != "mia" || !f.Cases[0].Allow {
				t.Errorf("%s: %+v", text, f.Cases)
			}
		}
	}
}

// TestAttributeTypes: attributes are as a request's are, whose numbers are all
// floating point.
func TestAttributeTypes(t *testing.T) {
	t.Parallel()
	f := read(t, smallWith("USER", "attributes: {int: 3, hex: 0x10, float: 2.5, text: '3', yes: true, no: no, date: 2026-01-01, nil: ~, list: [1, {a: b}]}"))
	backendtest.Equal(t, f.users["mia"].Attributes, map[string]any{
		"int": 3.0, "hex": 16.0, "float": 2.5, "text": "3", "yes": true, "no": "no", "date": "2026-01-01", "nil": nil,
		"list": []any{1.0, map[string]any{"a": "b"}},
	}, "attributes")
}

// TestWrong: what is wrong is said with its line and what to do, and no such file is
// run.
func TestWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ place, text, says string }{
		{"ROLE", "grant: []", "p:4: roles[0].grant: is not known; known are description, grants, inherits, name, permissions"},
		{"ROLE", "name: writer", "p:4: roles[0].name: is there twice"},
		{"ROLE", "grants: {permission: a}", "p:4: roles[0].grants: must be a list"},
		{"ROLE", "grants: [documents:write]", "p:4: roles[0].grants[0]: must be an object"},
		{"ROLE", "grants: [{permission: 7}]", "p:4: roles[0].grants[0].permission: must be text; put it in quotes"},
		{"ROLE", "grants:\n      - permission: documents:write\n        condition: owner == 'mia'", "p:6: roles[0].grants[0].condition: line 1, column 1: undeclared reference to 'owner'"},
		{"ROLE", "grants: [{permission: a, condition: resource.attributes.n}]", "p:4: roles[0].grants[0].condition: must say true or false"},
		{"ROLE", "grants: [{permission: a, condition: '" + strings.Repeat("x", 5000) + "'}]", "p:4: roles[0].grants[0].condition: "},
		{"ROLE", "grants: [{permission: a, effect: refuse}]", "p:4: roles[0].grants[0].effect: must be allow or deny"},
		{"ROLE", "grants: [{permission: 'a:*:b'}]", "p:4: roles[0].grants[0].permission: must be a permission pattern"},
		{"ROLE", "grants: [{effect: deny, permission: 'tollgate:*'}]", "p:4: roles[0].grants[0].permission: must not deny Tollgate's own"},
		{"ROLE", "grants: [{permission: 'tollgate:user:read'}]", `p:4: roles[0].grants[0].permission: "tollgate:user:read" matches nothing`},
		{"ROLE", "inherits: [writer]", `p:2: roles[0]: there is no role "writer"`},
		{"ROLE", "inherits: [reader]", `p:2: roles[0]: role "reader" would inherit itself`},
		{"ROLE", "description: |\n      " + strings.Repeat("x", 600), "p:4: roles[0].description: "},
		{"permissions: [documents:read]", "permissions: [Documents]", "p:3: roles[0].permissions[0]: must be a permission pattern"},
		{"name: reader", "name: Reader", "p:2: roles[0].name: must be"},
		{"name: reader", "name: auditor", `p:2: roles[0].name: a role "auditor" exists already`},
		{"USER", "roles: [nobody]", "p:7: users[0].roles: is there twice"},
		{"roles: [reader]", "roles: [nobody]", `p:5: user mia: there is no role "nobody" in this file`},
		{"roles: [reader]", "roles: [reader, {role: reader}]", `p:5: user mia: has the role "reader" twice`},
		{"roles: [reader]", "roles: [{role: reader, expires: tomorrow}]", "p:6: users[0].roles[0].expires: must be a time with its zone"},
		{"roles: [reader]", "roles: [{role: reader, until: tomorrow}]", "p:6: users[0].roles[0].until: is not known; known are expires, role"},
		{"USER", "kind: robot", "p:7: users[0].kind: must be person or service"},
		{"USER", "attributes: [a]", "p:7: users[0].attributes: must be an object"},
		{"USER", "attributes: {a: .inf}", "p:7: users[0].attributes.a: must be what JSON has"},
		{"USER", "attributes: {a: !!binary aGk=}", "p:7: users[0].attributes.a: must be what JSON has"},
		{"USER", "attributes: {1: a}", "p:7: users[0].attributes: has a key that is not text"},
		{"USER", "attributes: {a: " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}", "has lists and objects more than 32 deep"},
		{"USER", "attributes: {a: " + strings.Repeat("x", 9000) + "}", "p:7: users[0].attributes: must be at most 8192 bytes"},
		{"USER", "attributes: {a: &x 1, b: *x}", "p:7: users[0].attributes.b: aliases (*x) are not taken"},
		{"name: mia", "name: m ia", "p:5: users[0].name: must not contain spaces"},
		{"USER", "  \n  - name: MIA", `p:8: users[1].name: there is a user "mia" already`},
		{"USER", "id: a\n  - {name: tom, id: a}", `another user has the id "a"`},
		{"RESOURCE", "attributes: 7", "p:10: resources[0].attributes: must be an object"},
		{"RESOURCE", "\n  - {type: documents, id: plan}", `p:11: resources[1]: there is a resource "documents/plan" already`},
		{"type: documents", "type: Documents", "p:8: resources[0].type: must be "},
		{"id: plan", "id: ''", "p:9: resources[0].id: "},
		{"TEST", "expects: deny", "p:15: tests[0].expects: is not known"},
		{"TEST", "anyOf: [a]\n    any_of: [a]", "p:16: tests[0].anyOf: is there twice"},
		{"TEST", "anyOf: [documents:read]", "p:15: tests[0].anyOf: cannot be combined with permission"},
		{"TEST", "reason: TIRED", `p:15: tests[0].reason: "TIRED" is not a reason of a decision`},
		{"TEST", "reason: LAST_ADMINISTRATOR", `p:15: tests[0].reason: "LAST_ADMINISTRATOR" is not a reason`},
		{"TEST", "reason: CONDITION_FALSE", "p:15: tests[0].reason: OK is the reason of what is allowed"},
		{"TEST", "ip: 10.0.0.0/8", "p:15: tests[0].ip: "},
		{"TEST", "now: 2026-08-03", "p:15: tests[0].now: must be a time with its zone"},
		{"TEST", "context: {n: 7}", "p:15: tests[0].context.n: must be text; put it in quotes"},
		{"TEST", "context: {n: " + strings.Repeat("x", 300) + "}", "p:15: tests[0].context"},
		{"TEST", "scopes: ['a*']", "p:15: tests[0].scopes[0]: may have"},
		{"TEST", "resource: " + strings.Repeat("x", 300), "p:15: tests[0].resource: "},
		{"TEST", "resourceAttributes: {a: " + strings.Repeat("x", 9000) + "}", "p:15: tests[0].resourceAttributes: must be at most 8192 bytes"},
		{"user: mia", "user: tom", `p:12: tests[0].user: there is no user "tom" in this file`},
		{"user: mia", "", "p:11: tests[0].user: must not be empty"},
		{"name: reads", "name: ''", "p:11: tests[0].name: must not be empty"},
		{"expect: allow", "expect: maybe", "p:14: tests[0].expect: must be allow or deny"},
		{"expect: allow", "", "tests[0].expect: must be allow or deny"},
		{"permission: documents:read\n", "\n", "tests[0].permission: must not be empty, unless"},
		{"permission: documents:read\n", "permission: 'documents:*'\n", "p:13: tests[0].permission: must be one permission"},
		{"permission: documents:read\n", "permission: tollgate:users:read\n", "p:13: tests[0].permission: must be one of your own"},
	} {
		problems := wrong(t, smallWith(test.place, test.text))
		if !strings.Contains(problems, test.says) {
			t.Errorf("%s\n says %s\n want %s", test.text, problems, test.says)
		}
	}
}

// wrong reads a file that must be wrong, and returns what is said of it.
func wrong(t *testing.T, text string) string {
	t.Helper()
	f, problems, err := Read("p", strings.NewReader(text), false)
	backendtest.Must(t, err)
	if f != nil || len(problems) == 0 {
		t.Fatalf("it is taken: %.200s", text)
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.In("p")
	}
	return strings.Join(lines, "\n")
}

// TestWrongWhole: what is no file of tests at all.
func TestWrongWhole(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"":                          "p: is empty",
		"# nothing\n":               "p: is empty",
		"[]":                        "p:1: must be an object",
		"tests: []":                 "p:1: tests: there are none",
		"roles: []":                 "p:1: tests: there are none",
		"a: b":                      "p:1: a: is not known; known are resources, roles, tests, users",
		"tests: [\n":                "is not YAML: ",
		"tests: []\n---\ntests: []": "a file holds one document",
		"tests: []\n---\n[":         "is not YAML: ",
		"a: \xff":                   "is not YAML: ",
		"a: &a [*a]":                "is not known",
		"<<: {tests: []}":           "has a key that is not text",
		"tests: []\n" + strings.Repeat("#", maxFile):                                                     fmt.Sprintf("p: has more than %d bytes", maxFile),
		"tests:\n" + strings.Repeat("- {name: a, user: mia, permission: a, expect: deny}\n", maxCases+1): "p:1: tests: there may be at most 10000",
	} {
		if problems := wrong(t, text); !strings.Contains(problems, says) {
			t.Errorf("%.40q says %.300s, want %s", text, problems, says)
		}
	}
	// All that is wrong is said at once, in the order of the lines.
	problems := wrong(t, smallWith("TEST", "now: noon\n    ip: 1\n    other: 1"))
	backendtest.Equal(t, strings.Count(problems, "\n"), 2, "%s", problems)

	if _, _, err := Read("p", broken{}, false); err == nil {
		t.Error("a file that cannot be read is taken")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("unreadable") }

// TestReadForServer: a file for a running server need not have its users.
func TestReadForServer(t *testing.T) {
	t.Parallel()
	const file = "tests: [{name: a, user: mia, permission: a, expect: deny}]"
	if _, problems, err := Read("p", strings.NewReader(file), true); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	wrong(t, file)
}
