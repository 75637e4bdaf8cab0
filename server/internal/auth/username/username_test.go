package username

import (
	"strings"
	"testing"
	"unicode"

	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"pgregory.net/rapid"
)

func TestCanonicalName(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"alice":                                "alice",
		"  Alice\t":                            "alice",
		"ALICE@Example.COM":                    "alice@example.com",
		"Ｆｕｌｌ":                                 "full",   // full width
		"ﬁn":                                   "fin",    // a ligature
		"\u212Aelvin":                          "kelvin", // the sign for kelvin
		"JOSE\u0301":                           "josé",
		"josé":                                 "josé",
		"ÀÉÎ":                                  "àéî",
		"用户":                                   "用户",
		"a.b-c_d+e":                            "a.b-c_d+e",
		strings.Repeat("é", 128):               strings.Repeat("é", 128),
		"":                                     "",
		"   ":                                  "",
		"two words":                            "",
		"no\u00A0break":                        "",
		"tab\tin":                              "",
		"nul\x00":                              "",
		"bell\a":                               "",
		"zero\u200Bwidth":                      "",
		"non\u200Cjoiner":                      "",
		"mark\uFEFF":                           "",
		"trailing \u3000":                      "trailing", // wide spaces, too
		"\u2003before":                         "before",
		"ＡＤＭＩＮ":                                "admin",
		"ａｄｍｉｎ\u3000":                          "admin",
		"ad\u3000min":                          "",
		"①":                                    "1",
		"Ⅳ":                                    "iv",
		"join\u200Der":                         "",
		"right\u202Eleft":                      "",
		"soft\u00ADhyphen":                     "",
		"variation\uFE0F":                      "",
		"filler\u3164":                         "",
		"private\uE000":                        "",
		"\xff":                                 "",
		strings.Repeat("a", 129):               "",
		strings.Repeat("\uFDFA", 20):           "", // 18 characters each in NFKC, with spaces
		"018f4d3c-0000-7000-8000-000000000000": "",
		"018F4D3C-0000-7000-8000-00000000000A": "",
	} {
		got, err := Canonical(given)
		if want == "" {
			faulttest.WantField(t, err, "username")
		} else if err != nil || got != want {
			t.Errorf("Canonical(%q) = %q, %v, want %q", given, got, err, want)
		}
	}
}

// TestCanonicalNameIsFixed: a canonical name is its own canonical form, however
// its letters are cased, so that no two users can share one.
func TestCanonicalNameIsFixed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name, err := Canonical(rapid.String().Draw(t, "name"))
		if err != nil {
			return
		}
		for _, again := range []string{name, " " + name + "\n"} {
			if got, err := Canonical(again); err != nil || got != name {
				t.Fatalf("Canonical(%q) = %q, %v, want %q", again, got, err, name)
			}
		}
		if strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			t.Fatalf("%q holds a space or control", name)
		}
	})
}
