package audit

import (
	"encoding/json"
	"strings"
	"time"
)

// Filter says which events are wanted; its zero fields let everything through.
type Filter struct {
	Actor    string // a user's id or name
	Action   string // an action, or "auth.*" for all that start with "auth."
	Outcome  Outcome
	Resource string
	After    time.Time // at or after
	Before   time.Time // before
}

// prefix is what a wanted action starts with, when the filter asks for more
// than one.
func (f Filter) prefix() (string, bool) {
	if strings.HasSuffix(f.Action, ".*") {
		return strings.TrimSuffix(f.Action, "*"), true
	}
	return "", false
}

// stored cuts the filter's texts as the events' were, so that they meet.
func (f Filter) stored() Filter {
	f.Actor = text(f.Actor, nameSize)
	f.Action = text(f.Action, nameSize)
	f.Resource = text(f.Resource, textSize)
	return f
}

// match does in memory what conditions does in SQL.
func (f Filter) match(e *Event) bool {
	if f.Actor != "" && f.Actor != e.ActorID && f.Actor != e.ActorName {
		return false
	}
	if prefix, many := f.prefix(); many && !strings.HasPrefix(string(e.Action), prefix) {
		return false
	} else if !many && f.Action != "" && f.Action != string(e.Action) {
		return false
	}
	return (f.Outcome == "" || f.Outcome == e.Outcome) &&
		(f.Resource == "" || f.Resource == e.Resource) &&
		(f.After.IsZero() || micros(e.Time) >= micros(f.After)) &&
		(f.Before.IsZero() || micros(e.Time) < micros(f.Before))
}

// list names the list of events that the filter lets through: a page token
// holds for this name only.
func (f Filter) list() string {
	fields, err := json.Marshal([]any{f.Actor, f.Action, f.Outcome, f.Resource, bound(f.After), bound(f.Before)})
	if err != nil {
		panic("audit: " + err.Error()) // strings and numbers
	}
	return "audit/events" + string(fields)
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
