package auth

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestCanonicalName(t *testing.T) {
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
		got, err := canonicalName(given)
		if want == "" {
			wantField(t, err, "username")
		} else if err != nil || got != want {
			t.Errorf("canonicalName(%q) = %q, %v, want %q", given, got, err, want)
		}
	}
}

// TestCanonicalNameIsFixed: a canonical name is its own canonical form, however
// its letters are cased, so that no two users can share one.
func TestCanonicalNameIsFixed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name, err := canonicalName(rapid.String().Draw(t, "name"))
		if err != nil {
			return
		}
		for _, again := range []string{name, " " + name + "\n"} {
			if got, err := canonicalName(again); err != nil || got != name {
				t.Fatalf("canonicalName(%q) = %q, %v, want %q", again, got, err, name)
			}
		}
		if strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			t.Fatalf("%q holds a space or control", name)
		}
	})
}

func TestCheckDisplayName(t *testing.T) {
	for _, good := range []string{"", "Ann Lee", "Zoë 🦊", strings.Repeat("é", 256)} {
		if err := checkDisplayName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"a\x00b", "a\nb", "\xff", strings.Repeat("a", 257)} {
		wantField(t, checkDisplayName(bad), "displayName")
	}
}
