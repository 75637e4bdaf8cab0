package auth

import (
	"context"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// An access token is for one audience (RFC 7519 §4.1.3), the service that it
// may be shown to. Tollgate's own API and services without an audience of their
// own accept the server's (--audience) and no other, so that a token meant for
// one service is worthless at the next, and at the administration. Inside, an
// empty audience stands for the server's own.

// maxAudience is the size of an audience's name in bytes.
const maxAudience = 128

// audience checks the name of an audience that a caller gave and returns it;
// empty for the server's own.
func (s *Service) audience(name string) (string, error) {
	if len(name) > maxAudience {
		return "", badAudience("the audience must have at most %d bytes", maxAudience)
	}
	for _, c := range []byte(name) {
		if c < '!' || c > '~' {
			return "", badAudience("the audience must be printable ASCII without spaces: the name of a service, or its URI")
		}
	}
	if name == s.SigningKeys.Audience {
		return "", nil
	}
	return name, nil
}

// audienceOf is the audience of a new token of a session for which a caller
// asked for one, empty for the session's. A session that was begun for one
// audience gets no tokens for another, the server's own included.
func (s *Service) audienceOf(session sessionRow, asked string) (audience string, ok bool) {
	switch {
	case session.Audience == "" && asked != s.SigningKeys.Audience:
		return asked, true
	case session.Audience == "":
		return "", true
	default:
		return session.Audience, asked == "" || asked == session.Audience
	}
}

// withAudience records an audience that is not the server's own.
func withAudience(event audit.Event, audience string) audit.Event {
	if audience == "" {
		return event
	}
	return event.With("audience", audience)
}

// otherAudience is the error for a refresh that asked for another audience than
// the session's. It holds the refusal to record.
type otherAudience struct{ event audit.Event }

func (otherAudience) Error() string { return "the session is for another audience" }

func badAudience(format string, args ...any) error {
	return fault.New(fault.Invalid, "INVALID_AUDIENCE", format, args...)
}

func audienceOfPerson() error {
	return fault.Field("audience", "is for service accounts only; a person's tokens get theirs when they sign in")
}

// recordStray records that the caller, a service, was shown an access token
// that is meant for others: an attacker replays it, or a client mixes services up.
func (s *Service) recordStray(ctx context.Context, stray *caller.Principal) error {
	event := audit.New(ctx, audit.AccessDenied, audit.Denied, "").Because(string(caller.ReasonWrongAudience))
	event = event.With("audience", stray.Audience).With("asked_by", caller.From(ctx).UserID())
	event.ActorID, event.ActorName, event.SessionID, event.APIKeyID = stray.UserID, "", stray.SessionID, stray.APIKeyID
	return s.audit.RecordRefusal(ctx, event, event.Reason+" "+caller.From(ctx).UserID(), event.Origin())
}
