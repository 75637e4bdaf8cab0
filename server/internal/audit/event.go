// Package audit keeps the log of what happened: who did what, when, from
// where, and how it ended. An event is durable before its cause is answered.
package audit

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
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
	Login          Action = "auth.login"
	TokenIssue     Action = "auth.token" // by the client-credentials grant
	TokenRevoke    Action = "auth.token_revoke"
	Refresh        Action = "auth.refresh"
	RefreshReuse   Action = "auth.refresh_reuse"
	Logout         Action = "auth.logout"
	SessionRevoke  Action = "session.revoke"
	UserCreate     Action = "user.create"
	UserUpdate     Action = "user.update"
	UserDelete     Action = "user.delete"
	PasswordChange Action = "user.password_change"
	PasswordReset  Action = "user.password_reset"

	SecondFactorEnroll Action = "user.second_factor_enroll" // not asked for yet
	SecondFactorOn     Action = "user.second_factor_on"
	SecondFactorOff    Action = "user.second_factor_off"   // by the person
	SecondFactorReset  Action = "user.second_factor_reset" // by another user

	APIKeyCreate    Action = "api_key.create"
	APIKeyRotate    Action = "api_key.rotate"
	APIKeyRevoke    Action = "api_key.revoke"
	SigningKeyNew   Action = "signing_key.create"
	SigningRotate   Action = "signing_key.rotate"
	SigningRemove   Action = "signing_key.remove"
	SigningRewrap   Action = "signing_key.rewrap" // everything sealed, under a new master key
	RoleCreate      Action = "role.create"
	RoleUpdate      Action = "role.update"
	RoleDelete      Action = "role.delete"
	RoleAssign      Action = "role.assign"
	RoleUnassign    Action = "role.unassign"
	LimitCreate     Action = "limit.create"
	LimitUpdate     Action = "limit.update"
	LimitDelete     Action = "limit.delete"
	LimitReset      Action = "limit.reset"
	LimitThreshold  Action = "limit.threshold" // a key has used 80 % or 100 % of a quota
	RouteCreate     Action = "route.create"
	RouteUpdate     Action = "route.update"
	RouteDelete     Action = "route.delete"
	ResourcePut     Action = "resource.put"
	ResourceDelete  Action = "resource.delete"
	RecordingCreate Action = "recording.create"
	RecordingUpdate Action = "recording.update"
	RecordingDelete Action = "recording.delete"
	AccessDenied    Action = "access.denied"             // a decision made for a downstream service
	AccessAllowed   Action = "access.allowed"            // the same, where a recording asks for it
	AccessExplained Action = "access.explained"          // somebody asked how a decision comes about
	TollgateRefused Action = "tollgate.refused"          // a refused call of Tollgate's own API
	TollgateAllowed Action = "tollgate.allowed"          // one that was let through, where a recording asks for it
	LogKeyRotate    Action = "tollgate.audit_key_rotate" // checkpoints are signed with a new key
	LogStartOver    Action = "tollgate.audit_start_over" // the log has a new tree
	Retention       Action = "tollgate.audit_retention"  // old events were deleted
	HoldCreate      Action = "tollgate.audit_hold"       // events are kept whatever their age
	HoldDelete      Action = "tollgate.audit_release"    // and are not any more
)

// own says whether the name is reserved for Tollgate's actions.
func (a Action) own() bool {
	service, _, _ := strings.Cut(string(a), ".")
	switch service {
	case "auth", "session", "user", "api_key", "signing_key", "role", "limit", "route", "resource", "recording", "access", "tollgate":
		return true
	default:
		return false
	}
}

// Event is one entry of the log. Text fields hold what they are given, cut to
// the bounds below; Details never hold a secret.
type Event struct {
	ID         string    // empty: given when it is recorded
	Time       time.Time // to the microsecond; zero: when it is recorded
	ActorID    string    // a user id; empty for an unknown caller and for the system
	ActorName  string    // the name then, or the name tried at a sign-in
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

// DetailSize is how long the text of a detail may be, in bytes. What is longer is cut.
const DetailSize = 512

// The bounds of an event's texts, in bytes.
const (
	nameSize     = 128 // ids, names and actions
	textSize     = 256 // reason, resource
	agentSize    = 512
	ipSize       = 64
	detailPairs  = 32
	detailKey    = 64
	detailValue  = DetailSize
	outcomeBytes = 16
)

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
	maps.Copy(details, e.Details)
	details[key] = value
	e.Details = details
	return e
}

// complete gives the event an id and a time if it has none, and makes every text
// fit. What an attacker chose, such as a User-Agent, is cut rather than refused:
// it must not keep its own event out of the log.
func (e *Event) complete(clk clock.Clock) {
	if e.ID == "" {
		e.ID = clk.NewID()
	}
	if e.Time.IsZero() {
		e.Time = clk.Now()
	}
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	e.fit()
}

// fit makes every text fit for storing.
func (e *Event) fit() {
	for _, name := range []*string{&e.ID, &e.ActorID, &e.ActorName, &e.SessionID, &e.APIKeyID, (*string)(&e.Action), &e.RequestID, &e.RecordedBy} {
		*name = text(*name, nameSize)
	}
	e.Outcome = Outcome(text(string(e.Outcome), outcomeBytes))
	e.Reason = text(e.Reason, textSize)
	e.Resource = text(e.Resource, textSize)
	e.IP = text(e.IP, ipSize)
	e.UserAgent = text(e.UserAgent, agentSize)
	e.Details = facts(e.Details)
}

// size is about how many bytes the event's texts have.
func (e *Event) size() int {
	n := len(e.ID) + len(e.ActorID) + len(e.ActorName) + len(e.SessionID) + len(e.APIKeyID) + len(e.Action) + len(e.Outcome) +
		len(e.Reason) + len(e.Resource) + len(e.IP) + len(e.UserAgent) + len(e.RequestID) + len(e.RecordedBy)
	for key, value := range e.Details {
		n += len(key) + len(value)
	}
	return n
}

// facts makes details fit for storing: the first pairs by key.
func facts(details map[string]string) map[string]string {
	kept := make(map[string]string, min(len(details), detailPairs))
	for _, key := range slices.Sorted(maps.Keys(details)) {
		if len(kept) == detailPairs {
			break
		}
		kept[text(key, detailKey)] = text(details[key], detailValue)
	}
	return kept
}

// text makes s fit for storing: at most limit bytes of valid UTF-8 without
// NUL, which PostgreSQL refuses.
func text(s string, limit int) string {
	s = cut(s, limit)
	return cut(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD"), limit)
}

// cut shortens s to at most limit bytes, not inside a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > 0 && end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
