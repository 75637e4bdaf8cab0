package guard

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// TestEach: a panic or an error that nobody expected is the failure of one thing, and
// says nothing about what happened.
func TestEach(t *testing.T) {
	t.Parallel()
	counted := 0
	g := &Guard{log: slog.New(slog.DiscardHandler), refused: func(string, error) { counted++ }}
	for name, test := range map[string]struct {
		do   func() error
		want string
	}{
		"a panic":         {func() error { panic("secret") }, "INTERNAL"},
		"an error inside": {func() error { return errors.New("secret") }, "INTERNAL"},
		"a fault":         {func() error { return fault.Down("the database", errors.New("secret")) }, "DEPENDENCY_DOWN"},
	} {
		f := g.Each(t.Context(), "/x", test.do)
		if f == nil || f.Reason != test.want || fault.Connect(f, "").Message() == "secret" {
			t.Errorf("%s: %v", name, f)
		}
	}
	if counted != 1 {
		t.Errorf("%d calls counted, want the unavailable one", counted)
	}
	if f := g.Each(t.Context(), "/x", func() error { return nil }); f != nil {
		t.Errorf("no error: %v", f)
	}
}
