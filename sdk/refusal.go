package tollgate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// domain is the domain of Tollgate's google.rpc.ErrorInfo.
const domain = "tollgate.dev"

// refusal returns the answer to a caller about a decision against the call. The
// middleware takes the HTTP status from its code and the headers from its
// metadata.
func refusal(d *Decision, permission string) *connect.Error {
	switch d.Reason {
	case ReasonCredentialMissing:
		return challenge(d.Reason, "Bearer", "send an access token or an API key as Authorization: Bearer")
	case ReasonCredentialExpired:
		return challenge(d.Reason, badToken, "the credential has expired; refresh it or sign in again")
	case ReasonCredentialRevoked:
		return challenge(d.Reason, badToken, "the credential was revoked; sign in again")
	case ReasonUserDisabled:
		return challenge(d.Reason, badToken, "the user is disabled")
	case ReasonCredentialInvalid, ReasonUserUnknown:
		return challenge(d.Reason, badToken, "the credential is not valid; sign in again")
	case ReasonWrongAudience:
		return challenge(d.Reason, badToken, "the access token was issued for another service; ask for one with the audience of this one")
	case ReasonSecondFactorRequired:
		return challenge(d.Reason, stepUp, "sign in again, with a second factor")
	case ReasonSignInRequired:
		return challenge(d.Reason, stepUp, "the sign-in is too long ago; sign in again")
	case ReasonLimited:
		err := newError(connect.CodeResourceExhausted, string(d.Reason), "too many calls", d.RetryAfter)
		writeLimits(err.Meta(), d.Limits)
		return err
	}
	message := "this call is not allowed"
	switch d.Reason {
	case ReasonPermissionMissing:
		message = fmt.Sprintf("this needs the permission %s, which none of your roles grants", permission)
	case ReasonScopeMissing:
		message = fmt.Sprintf("this needs the permission %s, which the API key's scopes leave out", permission)
	case ReasonDeniedByGrant:
		message = fmt.Sprintf("one of your roles denies %s here", permission)
	case ReasonConditionFalse, ReasonConditionFailed:
		message = fmt.Sprintf("your roles grant %s only under a condition that is not met here", permission)
	case ReasonSelfOnly:
		message = "only the user in question may make this call, signed in as a person"
	case ReasonPasswordChangeRequired:
		message = "choose a new password first"
	}
	err := newError(connect.CodePermissionDenied, string(d.Reason), message, 0)
	err.Meta().Set("WWW-Authenticate", `Bearer error="insufficient_scope"`)
	writeLimits(err.Meta(), d.Limits)
	return err
}

// badToken is the challenge for a credential that was given and is not good
// (RFC 6750 §3.1).
const badToken = `Bearer error="invalid_token"`

// stepUp is the challenge for a good credential whose sign-in was too weak or is
// too long ago (RFC 9470 §3).
const stepUp = `Bearer error="insufficient_user_authentication"`

func challenge(reason Reason, header, message string) *connect.Error {
	err := newError(connect.CodeUnauthenticated, string(reason), message, 0)
	err.Meta().Set("WWW-Authenticate", header)
	return err
}

// unavailableError returns the answer to a caller when there is no decision. The
// cause is for the log only: it may be this service's own credential.
func (c *Client) unavailableError(ctx context.Context, err error) *connect.Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return connect.NewError(connect.CodeCanceled, context.Canceled) // no one reads the answer
	}
	c.log.ErrorContext(ctx, "tollgate: a call was refused because it could not be decided", "error", err)
	wait := time.Second
	if known, ok := errors.AsType[*Error](err); ok {
		wait = max(wait, known.RetryAfter)
	}
	return newError(connect.CodeUnavailable, "DEPENDENCY_DOWN", "access cannot be checked right now; try again", wait)
}

// newError returns an error with its details; the caller may try again after
// wait, if that is more than zero.
func newError(code connect.Code, reason, message string, wait time.Duration) *connect.Error {
	err := connect.NewError(code, errors.New(message))
	details := []proto.Message{&errdetails.ErrorInfo{Reason: reason, Domain: domain}}
	if wait > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
		err.Meta().Set("Retry-After", strconv.FormatInt(seconds(wait), 10))
	}
	for _, message := range details {
		if detail, failed := connect.NewErrorDetail(message); failed == nil {
			err.AddDetail(detail)
		}
	}
	return err
}

// writeLimits sets the RateLimit fields (draft-ietf-httpapi-ratelimit-headers)
// to the most restrictive limit that is enforced. A limit's name is
// [a-z0-9._-], so quotes are all that its structured field needs.
func writeLimits(header http.Header, limits []LimitStatus) {
	for _, l := range limits {
		if l.Shadow {
			continue
		}
		header.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", l.Name, l.Remaining, seconds(l.Reset)))
		header.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d", l.Name, l.Limit))
		return
	}
}

// seconds rounds up, so that no caller comes back too early.
func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }
