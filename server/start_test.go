package main_test

import (
	"strings"
	"testing"
)

// A start says what it uses, and that a first password is not used again; what
// it suggests to try cannot be mistaken for a command with the password in it.
func TestStartSays(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir).kill(t)
	s := serve(t, dir, "TOLLGATE_ADMIN_PASSWORD=hunter2 hunter2", "TOLLGATE_ISSUER=https://auth.example.com")
	line := ""
	eventually(t, "the line of the start", func() bool {
		for l := range strings.Lines(s.stderr.String()) {
			if strings.Contains(l, `"msg":"serving"`) {
				line = l
			}
		}
		return line != ""
	})
	for _, word := range []string{`"version":"`, `"database":"sqlite:tollgate.db"`, `"redis":"in this process"`, `"issuer":"https://auth.example.com"`} {
		if !strings.Contains(line, word) {
			t.Errorf("the start says %s, not %s", line, word)
		}
	}
	if !strings.Contains(s.stderr.String(), "TOLLGATE_ADMIN_PASSWORD is ignored") {
		t.Error("it does not say that the password is ignored")
	}
	if said := s.stdout.String() + s.stderr.String(); strings.Contains(said, "hunter2") || strings.Contains(said, "$TOLLGATE_ADMIN_PASSWORD") {
		t.Errorf("it says %s", said)
	}
}
