package password

import (
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for password, good := range map[string]bool{
		"":                      false,
		"1234567":               false,
		"12345678":              false, // common
		"12345679!":             true,
		"Password1":             false, // common, but for the case
		"iloveyou":              false,
		"hunter2hunter2":        true,
		"correct horse battery": true,
		"ann-the-first":         false, // the name
		" ANN-the-ﬁrst":         false,
		"ann-the-first!":        true,
		"ééééééé":               false, // 14 bytes, but 7 characters
		"éééééééé":              true,
		strings.Repeat("a", 72): true,
		strings.Repeat("a", 73): false,
		strings.Repeat("é", 36): true,
		strings.Repeat("é", 37): false,
		"       8":              true,
		"with \x00 zero in it":  false,
		"hunter2hunter2\x00":    false,
		"hunter2\x00hunter2":    false,
		strings.Repeat("🦊", 18): true,
		strings.Repeat("🦊", 19): false,
	} {
		if err := Check("password", "ann-the-first", password); good && err != nil {
			t.Errorf("%q: %v", password, err)
		} else if !good {
			faulttest.WantField(t, err, "password")
		}
	}
}

func TestNewOneTime(t *testing.T) {
	t.Parallel()
	a, b := NewOneTime(), NewOneTime()
	if len(a) != 20 || a == b || strings.ContainsAny(a, "ilou") || Check("", "", a) != nil {
		t.Errorf("one-time passwords %q and %q", a, b)
	}
}
