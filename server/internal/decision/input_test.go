package decision

import (
	"context"
	"errors"
	"testing"

	"github.com/tollgatehq/tollgate/internal/condition"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// Callers may choose what their calls are about: only a condition that reads what is
// stored of it has it looked up, once, and only for that does it matter that it cannot
// be.
func TestInputLooksUpWhatIsRead(t *testing.T) {
	t.Parallel()
	looked, down := 0, errors.New("down")
	var fails error
	s := &Service{clock: clock.Real(), resource: func(_ context.Context, kind, id string) (map[string]any, error) {
		looked++
		backendtest.Equal(t, kind+" "+id, "doc a/b", "looked up")
		return map[string]any{"owner": "mia", "state": "open"}, fails
	}}
	compile := func(text string) *condition.Condition {
		c, err := condition.Compile(text)
		backendtest.Must(t, err)
		return c
	}
	plain, owned := compile(`principal.username == "mia"`), compile(`resource.attributes.owner == principal.username && resource.attributes.state == "shut"`)
	mia := &caller.Principal{Username: "mia"}
	asked := &Request{Resource: "doc/a/b", ResourceAttributes: map[string]any{"state": "shut"}}

	input := s.input(t.Context(), mia, asked, "doc:read")
	for range 2 {
		_, err := input(plain)
		backendtest.Must(t, err)
	}
	backendtest.Equal(t, looked, 0, "look-ups for a condition that reads nothing of it")
	for range 2 {
		in, err := input(owned)
		backendtest.Must(t, err)
		yes, err := owned.Holds(in)
		backendtest.Equal(t, yes, true, "of what is stored and what was given: %v", err)
	}
	backendtest.Equal(t, looked, 1, "look-ups for one that does")

	fails = down
	input = s.input(t.Context(), mia, asked, "doc:read")
	_, err := input(plain)
	backendtest.Must(t, err)
	if _, err := input(owned); !errors.Is(err, down) {
		t.Errorf("it cannot be looked up: %v", err)
	}
}
