package decision

import (
	"cmp"
	"context"
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/recordings"
)

// action is the name that the source's calls are recorded under.
func (s Source) action(allowed bool) audit.Action {
	switch {
	case s == SourceAPI && allowed:
		return audit.TollgateAllowed
	case s == SourceAPI:
		return audit.TollgateRefused
	case allowed:
		return audit.AccessAllowed
	default:
		return audit.AccessDenied
	}
}

// event is the decision for the record; who is whose call it is, as far as that is
// known.
func (r *Request) event(ctx context.Context, d *Decision, who *caller.Principal) audit.Event {
	event := audit.Event{
		Action: r.Source.action(d.Allowed), Outcome: audit.Denied, Reason: string(d.Reason), Resource: r.Resource,
		UserAgent: r.UserAgent, RequestID: r.RequestID,
	}
	if d.Allowed {
		event.Outcome, event.Reason = audit.Success, ""
	}
	if r.IP.IsValid() {
		event.IP = r.IP.String()
	}
	if who != nil {
		event.ActorID, event.ActorName, event.SessionID, event.APIKeyID = who.UserID, who.Username, who.SessionID, who.APIKeyID
	}
	if permission := r.Rule.Named(); permission != "" {
		event = event.With("permission", permission).With("revision", strconv.FormatInt(d.Revision, 10))
	} else {
		event = event.With("action", r.Rule.Action)
	}
	if d.Verdict.Grant != nil {
		event = event.With("grant", d.Verdict.String())
	}
	if asker := caller.From(ctx); asker.Principal != nil && r.Source != SourceAPI {
		event = event.With("asked_by", asker.Principal.UserID)
	}
	return event
}

// recordRefusal writes a refusal to the audit log. Those of which a caller can make a
// flood are counted there: by a limit, of Tollgate's own API, and of nobody
// known. What a service's known users are denied is recorded each time, for the
// resource is another one.
func (s *Service) recordRefusal(ctx context.Context, r Request, d Decision, stray *caller.Principal, taken limits.Result) error {
	event := r.event(ctx, &d, cmp.Or(d.Principal, stray))
	if stray != nil {
		event = event.With("audience", stray.Audience)
	}
	switch {
	case d.Reason == caller.ReasonLimited:
		return s.audit.RecordRefusal(ctx, event.With("limit", taken.Name), "limit "+taken.Name, taken.Key)
	case r.Source == SourceAPI:
		return s.audit.RecordRefusal(ctx, event, event.Reason+" "+r.Resource, event.Origin())
	case d.Principal == nil:
		return s.audit.RecordRefusal(ctx, event, event.Reason+" "+cmp.Or(r.Rule.Named(), r.Rule.Action), event.Details["asked_by"]+" "+event.Origin())
	}
	return s.audit.Record(ctx, event)
}

// recordAllowed has a call recorded that is allowed, where a recording asks for it: it may
// go ahead when written has returned nil. One that goes on was recorded when it began;
// AuthZEN's, which limits do not count either, begin each time.
func (s *Service) recordAllowed(ctx context.Context, r *Request, d Decision) (written func(context.Context) error, err error) {
	rules := s.record.Rules()
	if rules == nil || d.Principal == nil || r.Rule.Public || r.Recheck && r.Source != SourceAuthZEN {
		return nil, nil
	}
	sample, recorded := rules.Sample(d.Principal.UserID, r.Rule.marked(), r.Resource)
	if !recorded {
		return nil, nil
	}
	event := r.event(ctx, &d, d.Principal)
	if d.Verdict.Grant == nil {
		event = event.With("grant", s.allowedBy(r, &d))
	}
	if sample < recordings.All {
		event = event.With("sample", strconv.FormatInt(sample, 10))
	}
	return s.audit.StartFor(d.Principal.UserID, event)
}

// marked is what recordings may match of a call: what limits count it as.
func (r *Rule) marked() []string {
	if list := r.each(); len(list) > 0 {
		return list
	}
	return []string{r.Action}
}

// allowedBy is what allowed a call without a condition, for the record: a permission of
// a role, or that the call needs none.
func (s *Service) allowedBy(r *Request, d *Decision) string {
	switch {
	case d.Verdict.Role != "":
		return s.roles.Policy().Allowing(d.Verdict.Role, r.Rule.each())
	case r.Rule.AnyUser:
		return "any caller"
	default:
		return "self"
	}
}
