package authzen

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// object is a JSON object. Members are found by their exact names, and those that
// nobody asks for are ignored (§10.1.1).
type object = map[string]any

// maxDepth is how deep objects and lists may be in each other.
const maxDepth = 64

var (
	errTwice = errors.New("has a member twice")
	errDeep  = errors.New("has objects and lists more than " + strconv.Itoa(maxDepth) + " deep")
)

// readBody reads a JSON object. The middleware has bounded it. A member that is there
// twice is refused, because the enforcement point may go by the other one, and so are
// texts that are not Unicode, which others may read as another text.
func readBody(from io.Reader) (object, error) {
	raw, err := io.ReadAll(from)
	if err != nil {
		return nil, malformed("cannot be read")
	}
	if len(raw) == 0 {
		return nil, malformed("is empty; send a JSON object")
	}
	if !utf8.Valid(raw) || loneSurrogate(raw) {
		return nil, malformed("is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	value, err := readValue(decoder, 0)
	switch {
	case errors.Is(err, errTwice), errors.Is(err, errDeep):
		return nil, malformed(err.Error())
	case err != nil:
		return nil, malformed("is not JSON")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, malformed("is more than one JSON value")
	}
	body, ok := value.(object)
	if !ok {
		return nil, malformed("is not a JSON object")
	}
	return body, nil
}

func malformed(what string) error {
	return fault.New(fault.Invalid, "BAD_REQUEST", "the body %s", what)
}

func readValue(from *json.Decoder, depth int) (any, error) {
	token, err := from.Token()
	if err != nil {
		return nil, err
	}
	opening, ok := token.(json.Delim)
	if !ok {
		return token, nil // null, a boolean, a float64 or a text
	}
	if depth == maxDepth {
		return nil, errDeep
	}
	if opening == '[' {
		list := []any{}
		for from.More() {
			value, err := readValue(from, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err = from.Token()
		return list, err
	}
	members := object{}
	for from.More() {
		name, err := from.Token()
		if err != nil {
			return nil, err
		}
		text, _ := name.(string) // the decoder takes nothing else
		if _, twice := members[text]; twice {
			return nil, errTwice
		}
		if members[text], err = readValue(from, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = from.Token()
	return members, err
}

// loneSurrogate says whether a JSON text has an escape for half of a character.
func loneSurrogate(text []byte) bool {
	escape := func(at int) (rune, bool) {
		if at+6 > len(text) || text[at] != '\\' || text[at+1] != 'u' {
			return 0, false
		}
		code, err := strconv.ParseUint(string(text[at+2:at+6]), 16, 16)
		return rune(code), err == nil
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		first, ok := escape(i)
		if i++; !ok || !utf16.IsSurrogate(first) {
			continue // what is escaped is no backslash that begins the next one
		}
		second, _ := escape(i + 5)
		if utf16.DecodeRune(first, second) == utf8.RuneError {
			return true
		}
		i += 10
	}
	return false
}
