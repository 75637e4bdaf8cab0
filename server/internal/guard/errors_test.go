package guard

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"buf.build/go/protovalidate"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestRefusal(t *testing.T) {
	t.Parallel()
	person, key := &caller.Principal{UserID: "u1", Username: "ann"}, &caller.Principal{UserID: "u1", Username: "ann", APIKeyID: "k1"}
	for _, test := range []struct {
		reason  caller.Reason
		who     *caller.Principal
		kind    fault.Kind
		message string
	}{
		{caller.ReasonCredentialMissing, nil, fault.Unauthenticated, "sign in first"},
		{caller.ReasonCredentialInvalid, nil, fault.Unauthenticated, "sign in again"},
		{caller.ReasonCredentialExpired, nil, fault.Unauthenticated, "refresh it"},
		{caller.ReasonCredentialRevoked, nil, fault.Unauthenticated, "was revoked"},
		{caller.ReasonWrongAudience, nil, fault.Unauthenticated, "another audience"},
		{caller.ReasonUserDisabled, nil, fault.Unauthenticated, "disabled"},
		{caller.ReasonUserUnknown, nil, fault.Unauthenticated, "not valid"},
		{caller.ReasonLimited, person, fault.Limited, "try again in 1m30s"},
		{caller.ReasonPermissionMissing, person, fault.Denied, "the permission a:b, which none of ann's roles grants"},
		{caller.ReasonScopeMissing, key, fault.Denied, "the API key's scopes"},
		{caller.ReasonPasswordChangeRequired, person, fault.Denied, "/v1/users/u1/password"},
		{caller.ReasonSelfOnly, person, fault.Denied, "only the user in question"},
		{caller.ReasonSecondFactorRequired, person, fault.Unauthenticated, "second factor"},
		{caller.ReasonSecondFactorRequired, key, fault.Unauthenticated, "an API key of a person cannot"},
		{caller.ReasonSignInRequired, person, fault.Unauthenticated, "of the last 1h"},
	} {
		err := Refusal(decision.Decision{Reason: test.reason, Principal: test.who, RetryAfter: 90 * time.Second, MaxAge: time.Hour}, decision.Rule{Permission: "a:b"})
		f := fault.From(err)
		if f.Kind != test.kind || f.Reason != strings.ToUpper(string(test.reason)) || !strings.Contains(f.Message, test.message) {
			t.Errorf("%s: %s %s %q", test.reason, f.Kind, f.Reason, f.Message)
		}
		if stepUp := test.reason == caller.ReasonSecondFactorRequired || test.reason == caller.ReasonSignInRequired; strings.Contains(f.Challenge, "insufficient_user_authentication") != stepUp {
			t.Errorf("%s: challenge %q", test.reason, f.Challenge)
		}
		if limited := test.reason == caller.ReasonLimited; (f.RetryAfter > 0) != limited {
			t.Errorf("%s: retry after %s", test.reason, f.RetryAfter)
		}
	}
}

// A message that breaks the contract's bounds is refused with each field's name
// as JSON has it, and with what the field takes.
func TestInvalid(t *testing.T) {
	t.Parallel()
	validator, err := protovalidate.New()
	backendtest.Must(t, err)
	authorize := func(permission string) *tollgatev1.AuthorizeRequest {
		return &tollgatev1.AuthorizeRequest{Permission: permission}
	}
	const oneOfYours = "must be one of your own: Tollgate decides about its own API (tollgate:…) by itself"
	for _, test := range []struct {
		message proto.Message
		want    string // fields and the beginnings of their messages
	}{
		{&tollgatev1.VerifyRequest{}, "credential: send one of accessToken, apiKey"},
		{&tollgatev1.ListUsersRequest{PageSize: 251}, "pageSize: "},
		{&tollgatev1.ListAPIKeysRequest{UserId: "x"}, "userId: "},
		{&tollgatev1.CreateRoleRequest{Name: "A"}, "name: must be a lower-case letter"},
		{&tollgatev1.CreateRoleRequest{Name: "a", Permissions: []string{"a:b", "a:*:b"}}, "permissions[1]: must be a permission pattern"},
		{&tollgatev1.CreateLimitRequest{Name: "a", Rate: 1}, "subject: must be one of SUBJECT_USER"},
		{authorize(""), "permission: must not be empty"},
		{authorize("orders:*"), "permission: must be one permission"},
		{authorize("tollgate:users:read"), "permission: " + oneOfYours},
		{&tollgatev1.BatchAuthorizeRequest{Requests: []*tollgatev1.AuthorizeRequest{authorize("a"), authorize("")}}, "requests[1].permission: must not be empty"},
		{&tollgatev1.BatchAuthorizeRequest{Requests: []*tollgatev1.AuthorizeRequest{authorize("tollgate:x")}}, "requests[0].permission: " + oneOfYours},
		{&tollgatev1.AuthorizeRequest{Permission: "a", Context: map[string]string{"user_id": strings.Repeat("x", 300)}}, `context["user_id"]: `},
		{&tollgatev1.AuthorizeRequest{Permission: "a", Client: &tollgatev1.Client{UserAgent: strings.Repeat("x", 600)}}, "client.userAgent: "},
	} {
		f := fault.From(invalid(test.message, validator.Validate(test.message)))
		if f.Kind != fault.Invalid || f.Reason != "INVALID_FIELD" || !strings.Contains(f.Message, test.want) {
			t.Errorf("%T: %s %s %q, want %s", test.message, f.Kind, f.Reason, f.Message, test.want)
			continue
		}
		field, _, _ := strings.Cut(test.want, ": ")
		found := false
		for _, v := range f.Violations {
			found = found || v.Field == field && !strings.Contains(v.Message, "regex")
		}
		if !found {
			t.Errorf("%T: violations %+v, want one of %s", test.message, f.Violations, field)
		}
	}
	for _, message := range []proto.Message{
		authorize("orders:read"), &tollgatev1.AuthorizeRequest{Authenticated: true}, &tollgatev1.AuthorizeRequest{SelfOnly: true},
	} {
		if err := validator.Validate(message); err != nil {
			t.Errorf("%v: %v", message, err)
		}
	}
}

// Every pattern of the contract is told in words.
func TestPatternMessages(t *testing.T) {
	t.Parallel()
	seen := map[protoreflect.FullName]bool{}
	var walk func(protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			field := m.Fields().Get(i)
			rules, err := protovalidate.ResolveFieldRules(field)
			backendtest.Must(t, err)
			for _, pattern := range []string{rules.GetString().GetPattern(), rules.GetRepeated().GetItems().GetString().GetPattern()} {
				if pattern != "" && patternMessages[pattern] == "" {
					t.Errorf("%s: no message for %s", field.FullName(), pattern)
				}
			}
			if field.Message() != nil {
				walk(field.Message())
			}
		}
	}
	for _, method := range contract.Methods() {
		walk(method.Input())
	}
}

func TestWriteLimits(t *testing.T) {
	t.Parallel()
	header := http.Header{}
	WriteLimits(header, []limits.Status{
		{Name: "shadow", Shadow: true}, {Name: "tight", Remaining: 1, Limit: 10, Reset: 1500 * time.Millisecond}, {Name: "loose", Remaining: 9, Limit: 10},
	})
	if header.Get("RateLimit") != `"tight";r=1;t=2` || header.Get("RateLimit-Policy") != `"tight";q=10` {
		t.Errorf("%v", header)
	}
}
