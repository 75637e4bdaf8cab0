package policytest

import (
	"strings"
	"testing"
	"time"
)

// FuzzRead: whatever a file says, it is read or refused with words, and what is read
// can be run.
func FuzzRead(f *testing.F) {
	f.Add(strings.TrimSpace(store) + "\n  - {name: x, user: mia, permission: documents:write, resource: documents/a/b, expect: allow}\n")
	f.Add(smallWith("TEST", "context: {a: b}"))
	f.Add("a: &a [*a]\ntests: *a")
	f.Add("? [a]\n: b\n--- !!map\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, problems, err := Read("f", strings.NewReader(text), false)
		if err != nil || file == nil && len(problems) == 0 {
			t.Fatalf("neither read nor refused: %v", err)
		}
		for _, p := range problems {
			if line := p.In("f"); strings.Contains(line, "\n") {
				t.Errorf("more than a line: %q", line)
			}
		}
		if file == nil {
			return
		}
		err = Run(t.Context(), file, NewLocal(time.Unix(0, 0)), func(r *Result) {
			if strings.Contains(r.String(), "\n") {
				t.Errorf("more than a line: %q", r)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
}
