package guard

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Refusal is the error for a call that a decision did not allow.
func Refusal(d decision.Decision, rule decision.Rule) error {
	reason := strings.ToUpper(string(d.Reason))
	switch d.Reason {
	case caller.ReasonLimited:
		return fault.New(fault.Limited, reason, "too many calls; try again in %s", wait(d.RetryAfter)).After(d.RetryAfter)
	case caller.ReasonPermissionMissing:
		return fault.New(fault.Denied, reason, "this needs the permission %s, which none of %s's roles grants", rule.Named(), d.Principal.Username)
	case caller.ReasonScopeMissing:
		return fault.New(fault.Denied, reason, "this needs the permission %s, which the API key's scopes leave out", rule.Named())
	case caller.ReasonSelfOnly:
		return fault.New(fault.Denied, reason, "only the user in question may make this call, signed in with a password: send that user's access token")
	case caller.ReasonDeniedByGrant:
		return fault.New(fault.Denied, reason, "a role of %s denies %s here", d.Principal.Username, rule.Named())
	case caller.ReasonConditionFalse:
		return fault.New(fault.Denied, reason, "the roles of %s grant %s only under a condition that is not true here", d.Principal.Username, rule.Named())
	case caller.ReasonConditionFailed:
		return fault.New(fault.Denied, reason, "a condition of the roles of %s about %s cannot be decided here; who may explain decisions can see why: POST /v1/authorize/explain", d.Principal.Username, rule.Named())
	case caller.ReasonRouteMissing:
		return fault.New(fault.Denied, reason, "no route says what this request needs, so it is refused; add one: POST /v1/routes")
	case caller.ReasonPasswordChangeRequired:
		return fault.New(fault.Denied, reason, "choose a new password first: POST /v1/users/%s/password", d.Principal.UserID)
	case caller.ReasonCredentialMissing:
		return fault.New(fault.Unauthenticated, reason, "sign in first: send an access token or API key as Authorization: Bearer")
	case caller.ReasonCredentialExpired:
		return fault.New(fault.Unauthenticated, reason, "the credential has expired; refresh it or sign in again")
	case caller.ReasonCredentialRevoked:
		return fault.New(fault.Unauthenticated, reason, "the credential was revoked; sign in again")
	case caller.ReasonSecondFactorRequired:
		return stepUp(reason, "", d.Principal,
			"this call takes a sign-in with a second factor: sign in again with a code; who has none yet enrolls one first: POST /v1/users/%s/second-factor", d.Principal.UserID)
	case caller.ReasonSignInRequired:
		return stepUp(reason, fmt.Sprintf(`, max_age="%d"`, int64(d.MaxAge.Seconds())), d.Principal,
			"this call takes a sign-in of the last %s: sign in again", d.MaxAge)
	case caller.ReasonWrongAudience:
		return fault.New(fault.Unauthenticated, reason, "the access token is for another audience than this; sign in or refresh for the right one, which is none to call Tollgate")
	case caller.ReasonUserDisabled:
		return fault.New(fault.Unauthenticated, reason, "the user is disabled")
	default:
		return fault.New(fault.Unauthenticated, reason, "the credential is not valid; sign in again")
	}
}

// stepUp is the error for a call that takes a better or newer sign-in. RFC 9470
// §3 has it a 401 with a challenge of its own for both.
func stepUp(reason, parameters string, p *caller.Principal, format string, args ...any) error {
	f := fault.New(fault.Unauthenticated, reason, format, args...)
	if p.APIKeyID != "" {
		f.Message += "; an API key of a person cannot: use an access token, or an API key of a service account"
	}
	f.Challenge = `Bearer error="insufficient_user_authentication"` + parameters
	return f
}

func wait(d time.Duration) time.Duration {
	return max(d.Truncate(time.Second), time.Second)
}

// Check validates a message by the contract's bounds, as every RPC does. The error
// has the paths of fields with the names of JSON.
func Check(validator protovalidate.Validator, m proto.Message) error {
	if surelyValid(m) {
		return nil
	}
	if err := validator.Validate(m); err != nil {
		return invalid(m, err)
	}
	return nil
}

// invalid is the error for a message that breaks the contract's bounds.
func invalid(m proto.Message, err error) error {
	var failed *protovalidate.ValidationError
	if !errors.As(err, &failed) {
		return fmt.Errorf("validate: %w", err)
	}
	f := fault.New(fault.Invalid, "INVALID_FIELD", "")
	messages := make([]string, len(failed.Violations))
	for i, v := range failed.Violations {
		field, at := fieldPath(m.ProtoReflect().Descriptor(), v.Proto.GetField())
		message := violationMessage(at, v)
		// The text of a rule of a whole message names the field first.
		if name, rest, found := strings.Cut(message, ": "); found && at != nil && at.Fields().ByJSONName(name) != nil {
			field, message = strings.TrimPrefix(field+"."+name, "."), rest
		}
		f.Violations = append(f.Violations, fault.Violation{Field: field, Message: message})
		messages[i] = field + ": " + message
	}
	f.Message = strings.Join(messages, "; ")
	return f
}

// fieldPath is a field's path with the names of JSON, requests[0].userId, and the
// message there, if it is one. The last part may be a oneof of that message.
func fieldPath(root protoreflect.MessageDescriptor, path *validate.FieldPath) (text string, at protoreflect.MessageDescriptor) {
	var names []string
	at = root
	for _, element := range path.GetElements() {
		name := protovalidate.FieldPathString(validate.FieldPath_builder{Elements: []*validate.FieldPathElement{element}}.Build())
		if field := at.Fields().ByName(protoreflect.Name(element.GetFieldName())); field != nil {
			name = field.JSONName() + strings.TrimPrefix(name, element.GetFieldName())
			if at = field.Message(); field.IsMap() {
				at = field.MapValue().Message()
			}
		}
		names = append(names, name)
	}
	return strings.Join(names, "."), at
}

// patternMessages say what the patterns of the contract ask for.
var patternMessages = map[string]string{
	`^([a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*(\.\*)?)?$`: "must be an action, such as order.cancel, or order.* for all that begin so",
	`^([a-z0-9._-]+:){0,7}[a-z0-9._-]+$`:                `must be one permission: 1 to 8 segments of lower-case letters, digits, ".", "_" and "-" with ":" between, as in "orders:read"`,
	`^(([a-z0-9._-]+:){0,7}[a-z0-9._-]+)?$`:             `must be one permission: 1 to 8 segments of lower-case letters, digits, ".", "_" and "-" with ":" between, as in "orders:read", or empty`,
	`^([a-z0-9._-]+:){0,7}([a-z0-9._-]+|[*])$`:          `must be a permission pattern: 1 to 8 segments of lower-case letters, digits, ".", "_" and "-" with ":" between, of which the last may be "*", as in "orders:read" or "orders:*"`,
	`^[a-z0-9._-]+$`:                          `must be lower-case letters, digits, ".", "_" and "-"`,
	`^[a-z0-9._-]*$`:                          `must be lower-case letters, digits, ".", "_" and "-", or empty`,
	`^[a-z][a-z0-9._-]*$`:                     `must be a lower-case letter, then lower-case letters, digits, ".", "_" and "-"`,
	`^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+$`: `must be two or more names with "." between, each a lower-case letter, then lower-case letters, digits, "_" and "-", as in "order.cancel"`,
	`^[!-~]*$`:                                `must be printable ASCII without spaces`,
}

// violationMessage is what is wrong with a field, where protovalidate's own words
// are a regular expression, the numbers of enums, or name no field.
func violationMessage(at protoreflect.MessageDescriptor, v *protovalidate.Violation) string {
	field := v.FieldDescriptor
	switch {
	case v.Proto.GetRuleId() == "string.pattern" && patternMessages[v.RuleValue.String()] != "":
		return patternMessages[v.RuleValue.String()]
	case field == nil && v.Proto.GetRuleId() == "required":
		elements := v.Proto.GetField().GetElements()
		if oneof := at.Oneofs().ByName(protoreflect.Name(elements[len(elements)-1].GetFieldName())); oneof != nil {
			var names []string
			for i := range oneof.Fields().Len() {
				names = append(names, oneof.Fields().Get(i).JSONName())
			}
			return "send one of " + strings.Join(names, ", ")
		}
	case field != nil && field.Enum() != nil && !field.IsList() && !field.IsMap():
		var names []string
		values := field.Enum().Values()
		for i := range values.Len() {
			if value := values.Get(i); value.Number() != 0 { // UNSPECIFIED
				names = append(names, string(value.Name()))
			}
		}
		return "must be one of " + strings.Join(names, ", ")
	}
	return v.Proto.GetMessage()
}

// WriteLimits sets the RateLimit fields (draft-ietf-httpapi-ratelimit-headers)
// to the most restrictive limit that is enforced.
func WriteLimits(header http.Header, all []limits.Status) {
	for _, l := range all {
		if l.Shadow {
			continue
		}
		reset := int64(math.Ceil(l.Reset.Seconds()))
		header.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", l.Name, l.Remaining, reset))
		header.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d", l.Name, l.Limit))
		return
	}
}
