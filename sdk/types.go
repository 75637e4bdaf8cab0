package tollgate

import (
	"context"
	"net/netip"
	"strings"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Reason says why a decision came out as it did. A newer Tollgate may give
// reasons that are not in this list.
type Reason string

// The reasons.
const (
	ReasonOK                     Reason = "OK"
	ReasonCredentialMissing      Reason = "CREDENTIAL_MISSING"
	ReasonCredentialInvalid      Reason = "CREDENTIAL_INVALID"
	ReasonCredentialExpired      Reason = "CREDENTIAL_EXPIRED"
	ReasonCredentialRevoked      Reason = "CREDENTIAL_REVOKED"
	ReasonUserDisabled           Reason = "USER_DISABLED"
	ReasonUserUnknown            Reason = "USER_UNKNOWN"
	ReasonLimited                Reason = "LIMITED"
	ReasonPermissionMissing      Reason = "PERMISSION_MISSING"
	ReasonScopeMissing           Reason = "SCOPE_MISSING"
	ReasonPasswordChangeRequired Reason = "PASSWORD_CHANGE_REQUIRED"
	ReasonWrongAudience          Reason = "WRONG_AUDIENCE"
	ReasonSecondFactorRequired   Reason = "SECOND_FACTOR_REQUIRED"
	ReasonSignInRequired         Reason = "SIGN_IN_REQUIRED"
	ReasonSelfOnly               Reason = "SELF_ONLY"
	ReasonDeniedByGrant          Reason = "DENIED_BY_GRANT"
	ReasonConditionFalse         Reason = "CONDITION_FALSE"
	ReasonConditionFailed        Reason = "CONDITION_FAILED"
)

func reasonOf(r tollgatev1.Reason) Reason {
	return Reason(strings.TrimPrefix(r.String(), "REASON_"))
}

// Principal is the user or service that a credential belongs to.
type Principal struct {
	UserID    string
	Username  string
	Service   bool      // a program rather than a person
	Roles     []string  // the roles in force at the decision, sorted
	SessionID string    // set for an access token
	APIKeyID  string    // set for an API key
	Scopes    []string  // what an API key is narrowed to; empty: not narrowed
	ExpiresAt time.Time // of the credential; zero: never
	Audience  string    // the service that the access token is for (RFC 8707); empty for an API key
	Amr       []string  // how the user signed in (RFC 8176): "pwd", "otp", "mfa"; empty for an API key
	AuthTime  time.Time // when the user signed in; zero for an API key
}

func principalOf(p *tollgatev1.Principal) *Principal {
	if p == nil {
		return nil
	}
	return &Principal{
		UserID: p.GetUserId(), Username: p.GetUsername(),
		Service: p.GetKind() == tollgatev1.UserKind_USER_KIND_SERVICE,
		Roles:   p.GetRoles(), SessionID: p.GetSessionId(), APIKeyID: p.GetApiKeyId(), Scopes: p.GetScopes(),
		Audience: p.GetAudience(), Amr: p.GetAmr(), ExpiresAt: timeOf(p.GetExpiresAt()), AuthTime: timeOf(p.GetAuthTime()),
	}
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

type principalKey struct{}

// FromContext returns the caller in a handler that [Client.Require],
// [Client.Interceptor], a [Verifier] or an [AssertionVerifier] protects; nil
// elsewhere and in RPCs that are public.
func FromContext(ctx context.Context) *Principal {
	p, _ := ctx.Value(principalKey{}).(*Principal)
	return p
}

// NewContext returns a context in which [FromContext] finds p, for the tests of
// handlers.
func NewContext(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// Verification is the answer of [Client.Verify] and [Verifier.Verify].
type Verification struct {
	Active    bool // the credential is good now
	Reason    Reason
	Principal *Principal // set when the credential is good
	Revision  int64      // the answer is at least as new as this
}

// AuthorizeRequest describes a call for [Client.Authorize] to decide about.
type AuthorizeRequest struct {
	// Credential is what the caller presented: an access token or an API key.
	// Without one, and without a UserID, the call counts against the limits of
	// IP and is refused.
	Credential string
	// UserID is for a caller whom this service has authenticated by itself.
	UserID string
	// Permission is what the call needs, without wildcards: "orders:read".
	Permission string
	// AnyOf are permissions of which one suffices, and AllOf are permissions that are
	// all needed: at most 16, instead of Permission.
	AnyOf, AllOf []string
	// Authenticated accepts any good credential; Permission is then only the name
	// that limits match, "authenticated" when it is empty. Unlike
	// [Client.Verify] it counts, and records bad credentials.
	Authenticated bool
	// Self is the id of the user that the call is about: a person who is signed
	// in as this user needs no Permission. API keys do.
	Self string
	// SelfOnly lets only the person who is signed in as Self pass. Permission is
	// then only the name that limits match, as with Authenticated.
	SelfOnly bool
	// Resource is what the call is about, for the audit log and for conditions:
	// "orders/42". It is cut after 256 bytes.
	Resource string
	// ResourceAttributes and ActionProperties are what conditions read of the resource,
	// besides what Tollgate knows of it, and of the action: what JSON can say, at most
	// 8 KiB each.
	ResourceAttributes, ActionProperties map[string]any
	// Context is what custom limits count by and conditions read: {"tenant": "acme"}. At most 32
	// entries, keys up to 64 and values up to 256 characters.
	Context map[string]string
	// IP is the caller's address; the zero Addr leaves limits per IP out.
	IP netip.Addr
	// UserAgent and RequestID are for the audit log.
	UserAgent, RequestID string
	// Cost is how much the call counts against limits; 0 means 1.
	Cost int64
	// Recheck is for a call that was allowed before and goes on, such as a
	// stream: limits do not count it again.
	Recheck bool
	// MinRevision asks for a decision that takes the write into account that
	// answered with this revision.
	MinRevision int64
	// OnUnavailable is what becomes of the call when Tollgate does not answer; the
	// client's failure mode when it is zero.
	OnUnavailable FailureMode
}

// Decision is the answer of [Client.Authorize].
type Decision struct {
	Allowed    bool
	Reason     Reason
	Principal  *Principal    // set when the credential is good; nil with ReasonUnavailable
	RetryAfter time.Duration // set with ReasonLimited, unless waiting never helps
	Limits     []LimitStatus // those that counted the call, the most restrictive first
	Revision   int64         // the decision is at least as new as this
	Grant      string        // the grant that decided, where one with a condition or a deny did

	goodFor time.Duration // how long the principal stays as it is, unless the policy feed says otherwise
}

// Err returns nil when the call is allowed, and a [*DeniedError] when it is not.
func (d *Decision) Err() error {
	if d.Allowed {
		return nil
	}
	return &DeniedError{Reason: d.Reason, RetryAfter: d.RetryAfter}
}

// LimitStatus is how much of one limit a caller has used.
type LimitStatus struct {
	Name      string
	Limit     int64         // calls at once when nothing is used
	Remaining int64         // calls that would pass right now
	Reset     time.Duration // until nothing is used any more
	Exceeded  bool          // the limit refused this call, or would have
	Shadow    bool          // the limit counts and never refuses
}

func statusOf(s *tollgatev1.LimitStatus) LimitStatus {
	return LimitStatus{
		Name: s.GetName(), Limit: s.GetLimit(), Remaining: s.GetRemaining(),
		Reset: s.GetReset_().AsDuration(), Exceeded: s.GetExceeded(), Shadow: s.GetShadow(),
	}
}

// CheckLimitRequest names a limit and what to count against it; see
// [Client.CheckLimit].
type CheckLimitRequest struct {
	Limit string // the limit's name
	Key   string // what is counted: a tenant, a phone number
	Cost  int64  // 0 means 1
	Peek  bool   // report the status and count nothing
}

// CheckLimitResult is the answer of [Client.CheckLimit].
type CheckLimitResult struct {
	Allowed    bool
	Status     LimitStatus
	RetryAfter time.Duration // set when refused, unless waiting never helps
}

// Err returns nil when the call is within the limit, and a [*DeniedError] when it
// is not.
func (r *CheckLimitResult) Err() error {
	if r.Allowed {
		return nil
	}
	return &DeniedError{Reason: ReasonLimited, RetryAfter: r.RetryAfter}
}

// Outcome is how an action ended.
type Outcome string

// The outcomes.
const (
	OutcomeSuccess Outcome = "SUCCESS"
	OutcomeDenied  Outcome = "DENIED"
	OutcomeFailure Outcome = "FAILURE"
)

// Event is an entry of the audit log; see [Client.RecordEvent].
type Event struct {
	Actor     *Principal // who did it: FromContext(ctx); nil: not known
	Action    string     // in your own words, with a dot: "order.cancel"
	Outcome   Outcome
	Reason    string // why, for other outcomes than success
	Resource  string // what it was done to: "orders/42"
	IP        netip.Addr
	UserAgent string
	RequestID string
	Details   map[string]string // further facts; never a secret
}
