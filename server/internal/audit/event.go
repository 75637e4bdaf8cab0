// Package audit keeps the log of what happened: who did what, when, from
// where, and how it ended. An event is durable before its cause is answered.
package audit

import (
	"context"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// Outcome is how an action ended.
type Outcome string

// The outcomes, as stored.
const (
	Success Outcome = "success"
	Denied  Outcome = "denied"  // the actor was not allowed to
	Failure Outcome = "failure" // it was tried and failed
)

// Action is what was done. The names are part of the API: people filter by them.
type Action string

// Tollgate's own actions. RecordEvent refuses them, and every other name that
// starts with one of their first segments.
const (
	Login           Action = "auth.login"
	Refresh         Action = "auth.refresh"
	RefreshReuse    Action = "auth.refresh_reuse"
	Logout          Action = "auth.logout"
	SessionRevoke   Action = "session.revoke"
	UserCreate      Action = "user.create"
	UserUpdate      Action = "user.update"
	UserDelete      Action = "user.delete"
	PasswordChange  Action = "user.password_change"
	PasswordReset   Action = "user.password_reset"
	APIKeyCreate    Action = "api_key.create"
	APIKeyRevoke    Action = "api_key.revoke"
	SigningKeyNew   Action = "signing_key.create"
	RoleCreate      Action = "role.create"
	RoleUpdate      Action = "role.update"
	RoleDelete      Action = "role.delete"
	RoleAssign      Action = "role.assign"
	RoleUnassign    Action = "role.unassign"
	LimitCreate     Action = "limit.create"
	LimitUpdate     Action = "limit.update"
	LimitDelete     Action = "limit.delete"
	LimitReset      Action = "limit.reset"
	AccessDenied    Action = "access.denied"    // a decision made for a downstream service
	TollgateRefused Action = "tollgate.refused" // a refused call of Tollgate's own API
)

// Event is one entry of the log. Text fields hold what they are given, cut to
// the column's bound; Details never hold a secret.
type Event struct {
	ID         string
	Time       time.Time
	ActorID    string // a user id; empty for nobody known and for the system
	ActorName  string // the name then, or the name tried at a sign-in
	SessionID  string
	APIKeyID   string
	Action     Action
	Outcome    Outcome
	Reason     string
	Resource   string // "users/<id>", "roles/clerk"
	IP         string
	UserAgent  string
	RequestID  string
	Details    map[string]string
	RecordedBy string // user id of the service that called RecordEvent
}

// SystemActor is the ActorName of what the command line or Tollgate itself did.
const SystemActor = "system"

// New makes the event of something that the context's caller did.
func New(ctx context.Context, action Action, outcome Outcome, resource string) Event {
	c := caller.From(ctx)
	e := Event{
		Action: action, Outcome: outcome, Resource: resource,
		IP: c.IPString(), UserAgent: c.UserAgent, RequestID: c.RequestID,
	}
	if c.System {
		e.ActorName = SystemActor
	}
	if p := c.Principal; p != nil {
		e.ActorID, e.ActorName, e.SessionID, e.APIKeyID = p.UserID, p.Username, p.SessionID, p.APIKeyID
	}
	return e
}

// Because sets the reason.
func (e Event) Because(reason string) Event {
	e.Reason = reason
	return e
}

// With adds a fact. The event's own map is not shared.
func (e Event) With(key, value string) Event {
	details := make(map[string]string, len(e.Details)+1)
	for k, v := range e.Details {
		details[k] = v
	}
	details[key] = value
	e.Details = details
	return e
}
