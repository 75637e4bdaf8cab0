package routes

import (
	"strings"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// maxPath is how long a request's path may be, in bytes as it is sent.
const maxPath = 4096

// CheckPath is the fault, PATH_REFUSED, of a path that Match refuses whatever the
// routes are: one that two servers may read in two ways. The path is that of a
// request target (RFC 9112 §3.2.1), as it was sent and without a query.
func CheckPath(path string) error {
	_, err := split(path, nil)
	return err
}

// split appends the segments of a path, each decoded once (RFC 3986 §2.1). A slash
// at the end makes no difference.
func split(path string, segments []string) ([]string, error) {
	switch {
	case len(path) > maxPath:
		return nil, refused("is longer than %d bytes", maxPath)
	case path == "" || path[0] != '/':
		return nil, refused(`does not start with "/"; send the path alone, without scheme and host`)
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c <= ' ' || c == 0x7f:
			return nil, refused("has a space or a control character in it")
		case c == '?' || c == '#':
			return nil, refused(`has a "?" or "#" in it; leave out query and fragment`)
		}
	}
	for rest := path[1:]; rest != ""; {
		var raw string
		raw, rest, _ = strings.Cut(rest, "/")
		segment, err := decode(raw)
		if err != nil {
			return nil, err
		}
		segments = append(segments, segment)
	}
	return segments, nil
}

// decode decodes a segment once, and refuses what servers disagree about.
func decode(raw string) (string, error) {
	if raw == "" {
		return "", refused(`has an empty segment ("//")`)
	}
	segment, plain := raw, true
	if strings.Contains(raw, "%") {
		var ok bool
		if segment, ok = unescape(raw); !ok {
			return "", refused(`has a "%%" without two hexadecimal digits after it`)
		}
		plain = false
	}
	if !utf8.ValidString(segment) {
		return "", refused("is not UTF-8 after decoding")
	}
	dots := true // only dots and spaces: some file systems take ".. " for ".."
	for i, c := range segment {
		switch {
		case c < ' ' || 0x7f <= c && c < 0xa0:
			return "", refused("has a control character in it after decoding")
		case c == '/':
			return "", refused("has an encoded slash")
		case c == '\\':
			return "", refused("has a backslash in it")
		case c == ';':
			return "", refused(`has a ";" in it: servers disagree about parameters of segments`)
		case c == '%' && !plain && i+2 < len(segment) && isHex(segment[i+1]) && isHex(segment[i+2]):
			return "", refused("is encoded twice")
		}
		dots = dots && (c == '.' || c == ' ')
	}
	if dots {
		return "", refused(`has a segment "." or "..", or one of dots and spaces alone`)
	}
	return segment, nil
}

// unescape decodes every %XX; false when one is cut short or not hexadecimal.
func unescape(raw string) (string, bool) {
	decoded := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
				return "", false
			}
			c = unhex(raw[i+1])<<4 | unhex(raw[i+2])
			i += 2
		}
		decoded = append(decoded, c)
	}
	return string(decoded), true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// refused never says what the path is: it may hold what must not be in a log.
func refused(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "PATH_REFUSED", "the path "+format, args...)
}
