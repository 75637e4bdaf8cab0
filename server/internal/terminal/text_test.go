package terminal

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostiles are texts that make terminals do something: set titles and colors, answer,
// clear, move, hide, turn text around.
var hostiles = []string{
	"\x1b[2J\x1b[H", "\x1b]0;title\x07", "\x1b]8;;https://evil.test\x1b\\link\x1b]8;;\x1b\\", "\x1bP+q544e\x1b\\", "\x1b[6n", "\x1bc", "\x1b(0",
	"\x9b31m", "\u009b31m", "\u0090data\u009c", "\u0085", "\x00", "\a\b\v\f\r", "a\tb", "a\nb", "\x7f\x7f", "\x0e\x0f", "\u202egnp.exe", "\u2066x\u2069",
	"\u200b\u200d\ufeff", "\u2028\u2029", "\xff\xfe\x80", "\xed\xa0\x80", "\U000e0041", "\u00ad", "\u061c", "\x1b", "\x18\x1a", "Mozilla/5.0 \x1b[31m(evil)",
}

// TestPlain checks that no hostile text keeps a character that a terminal obeys, and
// that what people write stays as it is.
func TestPlain(t *testing.T) {
	t.Parallel()
	for _, text := range hostiles {
		shown := Plain(text)
		if !utf8.ValidString(shown) || strings.ContainsFunc(shown, hostile) || shown == text {
			t.Errorf("%q is shown as %q", text, shown)
		}
	}
	for _, text := range []string{"", "mia", "Zoë Müller", "山田　太郎", "नमस्ते", "a\\b", "👍", "\uFFFD", "x y"} {
		if shown := Plain(text); shown != text {
			t.Errorf("%q is shown as %q", text, shown)
		}
	}
	if shown := Plain("a\x1b[1m\n\u202e\xff"); shown != `a\x1b[1m\n\u202e\xff` {
		t.Errorf("shown as %q", shown)
	}
	if shown := Lines("a\nb\x1b"); shown != "a\nb\\x1b" {
		t.Errorf("lines are shown as %q", shown)
	}
}

// TestJSON checks that JSON means the same and has nothing that a terminal obeys.
func TestJSON(t *testing.T) {
	t.Parallel()
	for _, text := range hostiles {
		before, err := json.Marshal([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		var want, got []string
		after := JSON(before)
		if json.Unmarshal(before, &want) != nil || json.Unmarshal(after, &got) != nil || got[0] != want[0] {
			t.Errorf("%s became %s", before, after)
		}
		if strings.ContainsFunc(string(after), hostile) {
			t.Errorf("%q has a character that a terminal obeys", after)
		}
	}
}

func FuzzPlain(f *testing.F) {
	for _, text := range hostiles {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if shown := Plain(text); !utf8.ValidString(shown) || strings.ContainsFunc(shown, hostile) {
			t.Errorf("%q is shown as %q", text, shown)
		}
	})
}
