package audit

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"
)

// Filter says which events are wanted; its zero fields let everything through.
type Filter struct {
	Actor      string // a user's id or name
	Action     string // an action, or "auth.*" for all that start with "auth."
	Outcome    Outcome
	Resource   string // a resource, or "orders/*" for all that start with "orders/"
	Reason     string
	Network    netip.Prefix // of the address; see ParseNetwork
	SessionID  string
	APIKeyID   string
	RequestID  string
	RecordedBy string
	After      time.Time // at or after
	Before     time.Time // before
}

// prefix is what a wanted text starts with, when the filter asks for more than one:
// "auth.*", or with another separator "orders/*".
func prefix(text, separator string) (string, bool) {
	if strings.HasSuffix(text, separator+"*") {
		return strings.TrimSuffix(text, "*"), true
	}
	return "", false
}

// What ends the segments of actions and of resources.
const (
	actionSeparator   = "."
	resourceSeparator = "/"
)

// stored cuts the filter's texts as the events' were, so that they meet.
func (f Filter) stored() Filter {
	for _, name := range []*string{&f.Actor, &f.Action, &f.SessionID, &f.APIKeyID, &f.RequestID, &f.RecordedBy} {
		*name = text(*name, nameSize)
	}
	f.Resource = text(f.Resource, textSize)
	f.Reason = text(f.Reason, textSize)
	return f
}

// match does in memory what criteria does in SQL.
func (f Filter) match(e *Event) bool {
	return (f.Actor == "" || f.Actor == e.ActorID || f.Actor == e.ActorName) &&
		matchText(f.Action, actionSeparator, string(e.Action)) &&
		(f.Outcome == "" || f.Outcome == e.Outcome) &&
		matchText(f.Resource, resourceSeparator, e.Resource) &&
		(f.Reason == "" || f.Reason == e.Reason) &&
		(!f.Network.IsValid() || f.Network.Contains(address(e.IP))) &&
		(f.SessionID == "" || f.SessionID == e.SessionID) &&
		(f.APIKeyID == "" || f.APIKeyID == e.APIKeyID) &&
		(f.RequestID == "" || f.RequestID == e.RequestID) &&
		(f.RecordedBy == "" || f.RecordedBy == e.RecordedBy) &&
		(f.After.IsZero() || micros(e.Time) >= micros(f.After)) &&
		(f.Before.IsZero() || micros(e.Time) < micros(f.Before))
}

func matchText(wanted, separator, is string) bool {
	if start, many := prefix(wanted, separator); many {
		return strings.HasPrefix(is, start)
	}
	return wanted == "" || wanted == is
}

// list names the list of events that the filter lets through: a page token
// holds for this name only.
func (f Filter) list() string {
	fields := []any{f.Actor, f.Action, f.Outcome, f.Resource, bound(f.After), bound(f.Before)}
	if rest := (Filter{Actor: f.Actor, Action: f.Action, Outcome: f.Outcome, Resource: f.Resource, After: f.After, Before: f.Before}); f != rest {
		// Other lists keep the names that instances of older versions give them.
		fields = append(fields, f.Reason, f.Network, f.SessionID, f.APIKeyID, f.RequestID, f.RecordedBy)
	}
	name, err := json.Marshal(fields)
	if err != nil {
		panic("audit: " + err.Error()) // strings and numbers
	}
	return "audit/events" + string(name)
}

// micros rounds up to the microseconds that events' times have: an event is at
// or after, or before, a finer time exactly when it is so of this one.
func micros(t time.Time) int64 { return t.Add(time.Microsecond - 1).UnixMicro() }

// bound is the stored form of a filter's time, nil for none.
func bound(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	at := micros(t)
	return &at
}
