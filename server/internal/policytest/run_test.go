package policytest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const store = `
roles:
  - {name: reader, permissions: [documents:read]}
  - name: author
    inherits: [reader]
    grants:
      - {permission: "documents:*", condition: resource.attributes.owner == principal.id}
      - {permission: documents:delete, effect: deny, condition: 'context.hold == "true"'}
  - name: night
    grants: [{permission: night:work, condition: now.getHours() < 6 || now.getHours() >= 22}]
  - name: robot
    grants: [{permission: robots:run, condition: 'principal.kind == "service" && principal.api_key_id != ""'}]
  - name: hidden
    grants: [{permission: hidden:see, condition: 'principal.attributes.password == context.password'}]
users:
  - {name: Mia, id: u-1, roles: [author]}
  - {name: tom, roles: [reader, {role: night, expires: 2026-08-03T23:00:00Z}]}
  - {name: robot, kind: service, roles: [robot, hidden], attributes: {password: hunter2}}
  - {name: root, roles: [administrator]}
  - {name: nobody}
resources:
  - {type: documents, id: "a/b", attributes: {owner: u-1}}
tests:
`

// TestLocal: cases come as the server decides them, and a line says why.
func TestLocal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, says string }{
		{"user: mia, permission: documents:read, expect: allow", "ok 0: x: allow; author (from reader) allows documents:read"},
		{"user: MIA, permission: documents:read, expect: deny", "FAIL 0: x: expected deny, came allow; author (from reader) allows documents:read"},
		{"user: mia, permission: documents:write, resource: documents/a/b, expect: allow", `ok 0: x: allow; author allows documents:* if resource.attributes.owner == principal.id: true; with principal.id = "u-1", resource.attributes.owner = "u-1"`},
		{"user: mia, permission: documents:write, resource: documents/a/b, resourceAttributes: {owner: u-2}, expect: deny, reason: CONDITION_FALSE", `ok 0: x: deny CONDITION_FALSE; author allows documents:* if resource.attributes.owner == principal.id: false; with principal.id = "u-1", resource.attributes.owner = "u-2"`},
		{"user: mia, permission: documents:write, resource: documents/c, expect: deny, reason: CONDITION_FALSE", `FAIL 0: x: expected deny CONDITION_FALSE, came deny CONDITION_FAILED; author allows documents:* if resource.attributes.owner == principal.id: it fails (no such key: owner); with principal.id = "u-1"`},
		{"user: mia, permission: documents:delete, resource: documents/a/b, context: {hold: 'true'}, expect: deny, reason: DENIED_BY_GRANT", `ok 0: x: deny DENIED_BY_GRANT; author denies documents:delete if context.hold == "true": true; with context.hold = "true"`},
		{"user: mia, permission: documents:delete, resource: documents/a/b, context: {hold: 'false'}, expect: deny", `FAIL 0: x: expected deny, came allow; author allows documents:* if resource.attributes.owner == principal.id: true; author denies documents:delete if context.hold == "true": false; with context.hold = "false", principal.id = "u-1", resource.attributes.owner = "u-1"`},
		{"user: mia, permission: documents:delete, resource: documents/a/b, expect: deny, reason: CONDITION_FAILED", `ok 0: x: deny CONDITION_FAILED; author denies documents:delete if context.hold == "true": it fails (no such key: hold)`},
		{"user: mia, scopes: ['documents:read'], permission: documents:read, expect: allow", "ok 0: x: allow; author (from reader) allows documents:read"},
		{"user: mia, scopes: ['other:*'], permission: documents:read, expect: allow", "FAIL 0: x: expected allow, came deny SCOPE_MISSING; author (from reader) allows documents:read; the API key's scopes are other:*"},
		{"user: tom, anyOf: [documents:write, documents:read], expect: allow", "ok 0: x: allow; reader allows documents:read"},
		{"user: tom, allOf: [documents:read, documents:write], expect: allow", "FAIL 0: x: expected allow, came deny PERMISSION_MISSING; reader allows documents:read"},
		{"user: tom, permission: documents:write, expect: deny, reason: PERMISSION_MISSING", "ok 0: x: deny PERMISSION_MISSING; nothing in what tom holds allows it: night, reader"},
		{"user: tom, permission: night:work, now: 2026-08-03T22:59:59Z, expect: allow", `ok 0: x: allow; night allows night:work if now.getHours() < 6 || now.getHours() >= 22: true; with now = "2026-08-03T22:59:59Z"`},
		{"user: tom, permission: night:work, now: 2026-08-03T23:00:00Z, expect: deny, reason: PERMISSION_MISSING", "ok 0: x: deny PERMISSION_MISSING; nothing in what tom holds allows it: reader"},
		{"user: tom, permission: night:work, expect: deny, reason: CONDITION_FALSE", `ok 0: x: deny CONDITION_FALSE; night allows night:work if now.getHours() < 6 || now.getHours() >= 22: false; with now = "2026-08-03T12:00:00Z"`},
		{"user: robot, scopes: ['*'], permission: robots:run, expect: allow", `ok 0: x: allow; robot allows robots:run if principal.kind == "service" && principal.api_key_id != "": true; with principal.api_key_id = "api-key", principal.kind = "service"`},
		{"user: robot, permission: robots:run, expect: deny, reason: CONDITION_FALSE", `ok 0: x: deny CONDITION_FALSE; robot allows robots:run if principal.kind == "service" && principal.api_key_id != "": false; with principal.api_key_id = "", principal.kind = "service"`},
		{"user: robot, permission: hidden:see, context: {password: hunter2}, expect: allow", "ok 0: x: allow; hidden allows hidden:see if principal.attributes.password == context.password: true; with context.password = (not shown), principal.attributes.password = (not shown)"},
		{"user: root, permission: whatever, expect: allow", "ok 0: x: allow; administrator allows *"},
		{"user: nobody, permission: whatever, expect: allow", "FAIL 0: x: expected allow, came deny PERMISSION_MISSING; nobody holds no role"},
	} {
		f := read(t, store+"  - {name: x, "+test.text+"}\n")
		f.Cases[0].Line = 0
		backendtest.Must(t, Run(t.Context(), f, NewLocal(time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC)), func(r *Result) {
			verdict := "FAIL "
			if r.Passed() {
				verdict = "ok "
			}
			backendtest.Equal(t, verdict+r.String(), test.says, "%s", test.text)
		}))
	}
}

// fixed is a judge that answers with what it is.
type fixed struct {
	Answer

	skips string
	err   error
}

func (j fixed) Skips(*Case) string                                  { return j.skips }
func (j fixed) Judge(context.Context, *File, *Case) (Answer, error) { return j.Answer, j.err }

func TestRun(t *testing.T) {
	t.Parallel()
	f := read(t, store+"  - {name: \"x\\e[2J\", user: mia, permission: a, expect: deny}\n  - {name: y, user: mia, permission: a, expect: deny}")
	run := func(j Judge) (lines []string, passed int, err error) {
		err = Run(t.Context(), f, j, func(r *Result) {
			lines = append(lines, r.String())
			if r.Passed() {
				passed++
			}
		})
		return lines, passed, err
	}
	lines, passed, err := run(fixed{skips: "not here"})
	backendtest.Must(t, err)
	if !slices.Equal(lines, []string{"24: x\uFFFD[2J: not here", "25: y: not here"}) || passed != 0 {
		t.Errorf("skipped: %q", lines)
	}
	// What a server says is shown and not acted on.
	lines, passed, err = run(fixed{Answer: Answer{Reason: caller.ReasonConditionFailed, Traces: []decision.Trace{{Trace: roles.Trace{
		Role: "a\x1b[2J", Verdict: roles.ConditionError, Grant: roles.Grant{Permission: "a", Condition: "x\n\u202e"}, Detail: "y\nFAIL",
	}}}}})
	backendtest.Must(t, err)
	if lines[1] != "25: y: deny CONDITION_FAILED; a\uFFFD[2J (from ) allows a if x \uFFFD: it fails (y\uFFFDFAIL)" || passed != 2 {
		t.Errorf("%q", lines[1])
	}
	lines, _, err = run(fixed{Answer: Answer{Reason: caller.ReasonUserDisabled}})
	if backendtest.Must(t, err); lines[1] != "25: y: deny USER_DISABLED" {
		t.Errorf("%q", lines[1])
	}
	lines, _, err = run(fixed{err: errors.New("down")})
	if err == nil || !strings.HasPrefix(err.Error(), "24: x") || !strings.HasSuffix(err.Error(), "down") || lines != nil {
		t.Errorf("%q, %v", lines, err)
	}
}
