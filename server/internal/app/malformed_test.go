package app

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"strings"
	"testing"
)

// Whatever the bytes of a body, REST and Connect answer in the one shape, call
// it the caller's mistake, and write nothing to the log.
func TestBodiesThatAreNoJSON(t *testing.T) {
	t.Parallel()
	i := startQuiet(t)
	good := `{"permission":"orders:read"}`
	for name, body := range map[string]string{
		"a byte that is no UTF-8": "\xe9", "such a byte behind": good + "\xe9", "for a name": "{\xe9:1}",
		"a mark and half a character": "\xef\xbb{}", "a byte order mark": "\xef\xbb\xbf" + good,
		"UTF-16": "\xff\xfe{\x00}\x00", "in a string": "{\"permission\":\"\xff\"}", "overlong": "{\"permission\":\"\xc0\xaf\"}",
		"a lone surrogate": `{"permission":"\ud800"}`, "NUL behind": good + "\x00", "a second value": good + good,
		"a comma too many": `{"permission":"orders:read",}`, "no comma": `{"permission":"orders:read" "cost":1}`,
		"single quotes": `{'permission':'orders:read'}`, "no quotes": `{permission:"orders:read"}`, "a comment": `{/**/}`,
		"cut": `{"permission":"ord`, "only a brace": `{`, "a bare text": `"orders:read"`, "null in a list": `[null]`, "a number": `1`,
		"a tab in a string": "{\"permission\":\"a\tb\"}", "a bad escape": `{"permission":"\x41"}`, "half an escape": `{"permission":"\u00"}`,
		"a leading zero": `{"cost":01}`, "a plus": `{"cost":+1}`, "hexadecimal": `{"cost":0x1}`, "not a number": `{"cost":NaN}`,
		"infinite": `{"cost":Infinity}`, "only a minus": `{"cost":-}`, "no digit before the point": `{"cost":.5}`, "too large": `{"cost":1e400}`,
		"the same name twice": `{"permission":"a:b","permission":"a:c"}`, "twice by an escape": `{"permission":"a:b","\u0070ermission":"a:c"}`,
		"both spellings": `{"minRevision":"1","min_revision":"2"}`, "another case": `{"Permission":"orders:read"}`,
		"nested lists": strings.Repeat("[", 100_000), "nested objects": strings.Repeat(`{"client":`, 10_000),
		"space only": " ", "non-breaking space": good + "\u00a0", "a form feed": "\f" + good,
	} {
		for _, path := range []string{"/v1/authorize", "/tollgate.v1.RolesService/Authorize"} {
			a := i.send(t, "POST", path, "application/json", body)
			if a.Status != http.StatusBadRequest || a.Str("code") != "invalid_argument" || a.Reason() == "" {
				t.Errorf("%s, %s: %d %.500s", name, path, a.Status, a.Raw)
			}
		}
	}
}

// Calls whose form is wrong for their protocol are their callers' mistakes: in
// the protocol's own code, and not in the log.
func TestCallsOfTheWrongForm(t *testing.T) {
	t.Parallel()
	i := startQuiet(t)
	const list = "/tollgate.v1.RolesService/ListRoles?connect=v1&encoding=json"
	for _, c := range []struct {
		name, method, path, code string
		status                   int
	}{
		{"not base64", "GET", list + "&base64=1&message=!!!", "invalid_argument", 400},
		{"base64 of no JSON", "GET", list + "&base64=1&message=e30e", "invalid_argument", 400},
		{"no message", "GET", list, "invalid_argument", 400},
		{"not the gzip it says", "GET", list + "&compression=gzip&base64=1&message=e30", "invalid_argument", 400},
		{"an unknown coding", "GET", list + "&compression=zstd&message=%7B%7D", "unimplemented", 501},
		{"an unknown RPC", "POST", "/tollgate.v1.RolesService/Nothing", "unimplemented", 404},
		{"an unknown service", "POST", "/tollgate.v1.NothingService/Nothing", "unimplemented", 404},
		{"an unknown path", "POST", "/tollgate.v9.RolesService/Authorize", "not_found", 404},
	} {
		a := i.call(t, c.method, c.path, i.admin, nil)
		if c.method == "POST" {
			a = i.send(t, c.method, c.path, "application/json", "{}")
		}
		if a.Status != c.status || a.Str("code") != c.code || a.Reason() == "" {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.Status, a.Raw, c.status, c.code)
		}
	}

	message := func(flags byte, size int, body string) string {
		head := []byte{flags, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(head[1:], uint32(size))
		return string(head) + body
	}
	for _, c := range []struct{ name, body, code string }{
		{"no message", "", "unimplemented"},
		{"two messages", message(0, 2, "{}") + message(0, 2, "{}"), "unimplemented"},
		{"a cut message", message(0, 9, "{}"), "invalid_argument"},
		{"a cut head", "\x00\x00", "invalid_argument"},
		{"compressed, it does not say how", message(1, 2, "{}"), "invalid_argument"},
		{"a length of 4 GiB", message(0, 1<<32-1, "{}"), "resource_exhausted"},
	} {
		a := i.send(t, "POST", "/tollgate.v1.AuthService/WatchRevocations", "application/connect+json", c.body)
		if !bytes.Contains(a.Raw, []byte(`"code":"`+c.code+`"`)) {
			t.Errorf("a stream with %s: %d %q, want %s", c.name, a.Status, a.Raw, c.code)
		}
	}
}
