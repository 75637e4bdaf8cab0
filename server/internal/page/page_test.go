package page

import (
	"encoding/base64"
	"errors"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

type place struct {
	Time int64
	ID   string
}

func tokens() Tokens { return NewTokens([]byte(strings.Repeat("k", 32))) }

func TestTokensRoundTrip(t *testing.T) {
	t.Parallel()
	want := place{1234567890123456, `an id with "quotes" and ünicode`}
	token := tokens().encode("users?a", want)
	var got place
	more, err := tokens().decode(token, "users?a", &got) // on another instance
	if err != nil || !more || got != want {
		t.Errorf("got %v %t, %v", got, more, err)
	}
	if more, err := tokens().decode("", "users?a", &got); more || err != nil {
		t.Errorf("no token: %t, %v", more, err)
	}
}

func TestDecodeRefusesOtherTokens(t *testing.T) {
	t.Parallel()
	token := tokens().encode("users", place{1, "x"})
	raw, _ := base64.RawURLEncoding.DecodeString(token)
	cases := map[string]struct{ token, list string }{
		"another list":          {token, "roles"},
		"another filter":        {token, "users?name=a"},
		"no list":               {token, ""},
		"list and place shift":  {base64.RawURLEncoding.EncodeToString(append(raw[:16:16], append([]byte("s"), raw[16:]...)...)), "user"},
		"another secret":        {NewTokens([]byte(strings.Repeat("j", 32))).encode("users", place{1, "x"}), "users"},
		"not base64":            {"!!!", "users"},
		"padded":                {base64.URLEncoding.EncodeToString(append(raw, ' ')), "users"},
		"too short":             {base64.RawURLEncoding.EncodeToString(raw[:15]), "users"},
		"the sum alone":         {base64.RawURLEncoding.EncodeToString(raw[:16]), "users"},
		"more after it":         {base64.RawURLEncoding.EncodeToString(append(slices.Clip(raw), ' ')), "users"},
		"a place of other form": {tokens().encode("users", []int{1}), "users"},
	}
	for name, c := range cases {
		var got place
		more, err := tokens().decode(c.token, c.list, &got)
		if more || !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %t, %v", name, more, err)
		}
		if f := fault.From(err); len(f.Violations) != 1 || f.Violations[0].Field != "pageToken" {
			t.Errorf("%s: does not name the field: %+v", name, f)
		}
	}
	for i := range raw {
		bad := append([]byte(nil), raw...)
		bad[i] ^= 1
		var got place
		if _, err := tokens().decode(base64.RawURLEncoding.EncodeToString(bad), "users", &got); !fault.Is(err, fault.Invalid) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

func TestPageSize(t *testing.T) {
	t.Parallel()
	for asked, want := range map[int32]int{-1: 50, 0: 50, 1: 1, 250: 250, 251: 250, 1 << 30: 250} {
		backendtest.Equal(t, pageSize(asked), want, "pageSize(%d)", asked)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	all := []string{"a", "b", "c", "d", "e"}
	read := func(after string, n int) ([]string, error) {
		rest := all[sort.SearchStrings(all, after+"\x00"):]
		return rest[:min(n, len(rest))], nil
	}
	itself := func(s string) string { return s }
	for size, want := range map[int32][]string{1: {"a", "b", "c", "d", "e"}, 2: {"ab", "cd", "e"}, 5: {"abcde"}, 6: {"abcde"}} {
		var got []string
		for token, more := "", true; more; more = token != "" {
			items, next, err := List(tokens(), "letters", size, token, read, itself)
			backendtest.Must(t, err)
			got, token = append(got, strings.Join(items, "")), next
		}
		backendtest.Equal(t, got, want, "pages of %d", size)
	}
	if _, _, err := List(tokens(), "letters", 1, tokens().encode("numbers", "a"), read, itself); !fault.Is(err, fault.Invalid) {
		t.Errorf("another list's token: %v", err)
	}
	broken := errors.New("broken")
	if _, _, err := List(tokens(), "letters", 1, "", func(string, int) ([]string, error) { return nil, broken }, itself); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
