package guard

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

// refusal is the error for a call that a decision did not allow.
func refusal(d decision.Decision, rule decision.Rule) error {
	reason := strings.ToUpper(string(d.Reason))
	switch d.Reason {
	case caller.ReasonLimited:
		return fault.New(fault.Limited, reason, "too many calls; try again in %s", wait(d.RetryAfter)).After(d.RetryAfter)
	case caller.ReasonPermissionMissing:
		return fault.New(fault.Denied, reason, "this needs the permission %s, which none of %s's roles grants", rule.Permission, d.Principal.Username)
	case caller.ReasonScopeMissing:
		return fault.New(fault.Denied, reason, "this needs the permission %s, which the API key's scopes leave out", rule.Permission)
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
		return fault.New(fault.Unauthenticated, reason, "the access token is for another audience; sign in or refresh without an audience to call Tollgate")
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

// invalid is the error for a message that breaks the contract's bounds.
func invalid(err error) error {
	var failed *protovalidate.ValidationError
	if !errors.As(err, &failed) {
		return fmt.Errorf("validate: %w", err)
	}
	f := fault.New(fault.Invalid, "INVALID_FIELD", "")
	for _, v := range failed.Violations {
		f.Violations = append(f.Violations, fault.Violation{
			Field: protovalidate.FieldPathString(v.Proto.GetField()), Message: message(v),
		})
	}
	messages := make([]string, len(f.Violations))
	for i, v := range f.Violations {
		messages[i] = strings.TrimPrefix(v.Field+": ", ": ") + v.Message
	}
	f.Message = strings.Join(messages, "; ")
	return f
}

// message is what is wrong with a field; of an enum it names the values, which
// the rule knows as numbers only.
func message(v *protovalidate.Violation) string {
	field := v.FieldDescriptor
	if field == nil || field.Enum() == nil || field.IsList() || field.IsMap() {
		return v.Proto.GetMessage()
	}
	var names []string
	values := field.Enum().Values()
	for i := range values.Len() {
		if value := values.Get(i); value.Number() != 0 { // UNSPECIFIED
			names = append(names, string(value.Name()))
		}
	}
	return "must be one of " + strings.Join(names, ", ")
}

// writeLimits sets the RateLimit fields (draft-ietf-httpapi-ratelimit-headers)
// to the most restrictive limit that is enforced.
func writeLimits(header http.Header, all []limits.Status) {
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
