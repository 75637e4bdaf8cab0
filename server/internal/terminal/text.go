package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Plain is text that came from elsewhere, a name or a User-Agent, as one line that a
// terminal only shows: control characters, invalid bytes, line breaks and those that
// turn the direction of text or take no space become escapes (\n, \x1b, \u202e).
func Plain(text string) string {
	if !strings.ContainsFunc(text, hostile) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case hostile(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hostile(r) && r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		case hostile(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Lines is Plain for text of several lines.
func Lines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = Plain(line)
	}
	return strings.Join(lines, "\n")
}

// hostile says whether a terminal may do something else with a character than show it.
func hostile(r rune) bool { return !unicode.IsPrint(r) && r != '\u3000' }

// JSON is a JSON text in which the characters of strings that a terminal may obey are
// escaped, which does not change what it means. JSON itself escapes those below U+0020.
func JSON(text []byte) []byte {
	return escape(text, func(r rune) string {
		if r < 0x10000 {
			return fmt.Sprintf(`\u%04x`, r)
		}
		return fmt.Sprintf(`\u%04x\u%04x`, (r-0x10000)>>10+0xD800, (r-0x10000)&0x3FF+0xDC00)
	})
}

// YAML does the same for a YAML text in which texts that Obeyed is true of are in double
// quotes.
func YAML(text []byte) []byte {
	return escape(text, func(r rune) string { return fmt.Sprintf(`\U%08x`, r) })
}

// Obeyed says whether a text has a character beyond ASCII that a terminal may obey.
func Obeyed(text string) bool { return strings.ContainsFunc(text, obeyed) }

func obeyed(r rune) bool { return r >= 0x7f && hostile(r) }

func escape(text []byte, as func(rune) string) []byte {
	if !Obeyed(string(text)) {
		return text
	}
	var b strings.Builder
	for _, r := range string(text) {
		if obeyed(r) {
			b.WriteString(as(r))
		} else {
			b.WriteRune(r)
		}
	}
	return []byte(b.String())
}
