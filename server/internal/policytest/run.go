package policytest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Answer is a decision and how it came about.
type Answer struct {
	Allowed bool
	Reason  caller.Reason
	Roles   []string // that the user holds
	Scopes  []string // of the API key
	Traces  []decision.Trace
}

// Judge decides cases.
type Judge interface {
	// Skips says why a case cannot be decided here; empty: it can.
	Skips(c *Case) string
	// Judge decides a case of the file. The error says that it could not.
	Judge(ctx context.Context, f *File, c *Case) (Answer, error)
}

// Local decides by the policy in the file.
type Local struct{ now time.Time }

// NewLocal makes one for which it is now where a case says nothing else.
func NewLocal(now time.Time) Local { return Local{now} }

// Skips implements Judge: none.
func (Local) Skips(*Case) string { return "" }

// keyID is principal.api_key_id of cases that have scopes.
const keyID = "api-key"

// Judge implements Judge.
func (l Local) Judge(_ context.Context, f *File, c *Case) (Answer, error) {
	r, err := c.request()
	if err != nil {
		return Answer{}, err
	}
	now := c.Now
	if now.IsZero() {
		now = l.now
	}
	who := f.principal(c, now)
	policy, stored := f.policy(), f.resources[c.Resource]
	a := Answer{Roles: who.Roles, Scopes: who.Scopes}
	v, err := r.Rule.Judge(func(permission string) (roles.Verdict, error) {
		v, traces, _, err := policy.Explain(who, permission, func(*condition.Condition) (*condition.Input, error) {
			return r.Input(who, permission, stored, now), nil
		})
		for _, t := range traces {
			one := decision.Trace{Trace: t}
			if r.Rule.Permission == "" {
				one.Asked = permission
			}
			a.Traces = append(a.Traces, one)
		}
		return v, err
	})
	a.Reason, a.Allowed = v.Reason, v.Reason == caller.ReasonOK
	return a, err
}

// policy is the file's, with the roles that come with Tollgate.
func (f *File) policy() *roles.Policy {
	if f.compiled == nil {
		f.compiled = roles.NewPolicy(slices.Concat(roles.Builtins(), f.roles))
	}
	return f.compiled
}

// principal is who asks, with the roles that have not ended.
func (f *File) principal(c *Case, now time.Time) *caller.Principal {
	u := f.users[c.User]
	who := &caller.Principal{UserID: u.ID, Username: u.Name, Kind: u.Kind, Attributes: u.Attributes, Scopes: c.Scopes, Roles: []string{}}
	if c.Scopes != nil {
		who.APIKeyID = keyID
	}
	for _, a := range u.Roles {
		if a.Expires.IsZero() || now.Before(a.Expires) {
			who.Roles = append(who.Roles, a.Role)
		}
	}
	slices.Sort(who.Roles)
	return who
}

// Result is what became of a case.
type Result struct {
	*Case
	Answer

	Skipped string // why it was not run; empty: it was
}

// Passed says whether it came as expected.
func (r *Result) Passed() bool {
	return r.Skipped == "" && r.Answer.Allowed == r.Allow && (r.Case.Reason == "" || r.Case.Reason == r.Answer.Reason)
}

// Run decides the cases of a file in order, and calls report with each result. The
// error is that of the first case that could not be decided.
func Run(ctx context.Context, f *File, judge Judge, report func(*Result)) error {
	for i := range f.Cases {
		c := &f.Cases[i]
		r := &Result{Case: c, Skipped: judge.Skips(c)}
		if r.Skipped == "" {
			var err error
			if r.Answer, err = judge.Judge(ctx, f, c); err != nil {
				return fmt.Errorf("%d: %s: %w", c.Line, plain(c.Name), err)
			}
		}
		report(r)
	}
	return nil
}

// String is the result in one line, without the file's name.
func (r *Result) String() string {
	line := fmt.Sprintf("%d: %s: ", r.Line, plain(r.Name))
	came := said(r.Answer.Allowed, r.Answer.Reason)
	switch {
	case r.Skipped != "":
		return line + r.Skipped
	case r.Passed():
		return line + came + r.why()
	default:
		return line + "expected " + said(r.Allow, r.Case.Reason) + ", came " + came + r.why()
	}
}

func said(allow bool, reason caller.Reason) string {
	switch {
	case allow:
		return "allow"
	case reason == "":
		return "deny"
	default:
		return "deny " + strings.ToUpper(string(reason))
	}
}

// why are the grants that decided, or did not where it came out as it should not, and
// what their conditions read.
func (r *Result) why() string {
	var parts []string
	read := map[string]string{}
	for _, t := range r.Traces {
		if r.tells(t) {
			parts = append(parts, grantText(t))
			maps.Copy(read, t.Read)
		}
	}
	switch {
	case r.Answer.Reason != caller.ReasonPermissionMissing:
	case len(parts) == 0 && len(r.Roles) == 0:
		parts = append(parts, r.User+" holds no role")
	case len(parts) == 0:
		parts = append(parts, "nothing in what "+r.User+" holds allows it: "+strings.Join(r.Roles, ", "))
	}
	if r.Answer.Reason == caller.ReasonScopeMissing {
		parts = append(parts, "the API key's scopes are "+strings.Join(r.Answer.Scopes, ", "))
	}
	if len(read) > 0 {
		var values []string
		for _, name := range slices.Sorted(maps.Keys(read)) {
			values = append(values, name+" = "+read[name])
		}
		parts = append(parts, "with "+strings.Join(values, ", "))
	}
	return plain(strings.Join(append([]string{""}, parts...), "; "))
}

// tells says whether a grant is a part of the answer.
func (r *Result) tells(t decision.Trace) bool {
	switch r.Answer.Reason {
	case caller.ReasonDeniedByGrant:
		return t.Verdict == roles.Denies
	case caller.ReasonConditionFailed:
		return t.Verdict == roles.ConditionError
	case caller.ReasonConditionFalse:
		return t.Verdict == roles.ConditionFalse && t.Grant.Effect != roles.Deny
	default:
		denyMissed := r.Answer.Allowed && !r.Passed() && t.Grant.Effect == roles.Deny && t.Verdict != roles.NoMatch
		return t.Verdict == roles.Matched || denyMissed
	}
}

func grantText(t decision.Trace) string {
	text := t.Role
	if t.From != t.Role {
		text += " (from " + t.From + ")"
	}
	if t.Grant.Effect == roles.Deny {
		text += " denies "
	} else {
		text += " allows "
	}
	text += t.Grant.Permission
	if t.Asked != "" && t.Asked != t.Grant.Permission {
		text += " (" + t.Asked + ")"
	}
	if t.Grant.Condition != "" {
		text += " if " + strings.Join(strings.Fields(t.Grant.Condition), " ") + ": " + outcome(t)
	}
	return text
}

func outcome(t decision.Trace) string {
	switch t.Verdict {
	case roles.ConditionError:
		return "it fails (" + strings.TrimPrefix(t.Detail, "run condition: ") + ")"
	case roles.ConditionFalse:
		return "false"
	default:
		return "true"
	}
}

// plain is text in one line that no terminal acts on.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}
