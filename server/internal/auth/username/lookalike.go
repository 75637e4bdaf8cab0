package username

import (
	"slices"
	"strings"
	"unicode"

	"github.com/tollgatehq/tollgate/server/internal/fault"
	"go.mau.fi/util/confusable"
	"golang.org/x/text/unicode/norm"
)

// CheckNew refuses a canonical name that can pass for another, by Unicode's
// security mechanisms (UTS #39). It is for names that are given, not for names
// that are looked up: who has such a name from before goes on signing in.
//
// A name is in one script, or in a mix that is usual in Japanese, Chinese or
// Korean with Latin letters (§5.2, highly restrictive); its digits are of one
// system (§5.3); it does not repeat a mark where that cannot be seen (§5.4);
// and a name in another script does not read as ASCII as a whole (§4). What
// looks alike within one script, l and 1 or ı and i, is not compared.
func CheckNew(name string) error {
	if scripts := scriptsOf(name); !mayMix(scripts) {
		return fault.Field("username", "mixes letters of several scripts (%s), which may look like another name; write it in one", strings.Join(scripts, ", "))
	}
	var system, mark rune
	latin := true // no letter of another script
	for _, r := range norm.NFD.String(name) {
		script := scriptOf(r)
		latin = latin && (script == "" || script == "Latin")
		zero, digit := zeroOf(r)
		switch {
		case digit && system != 0 && system != zero:
			return fault.Field("username", "mixes digits of several scripts; use one kind")
		case unicode.Is(unicode.Mn, r) && mark == r:
			return fault.Field("username", "has the same mark twice on one letter; leave one out")
		case r >= 0x180 && (script == "" || script == "Latin") && isASCII(confusable.Skeleton(string(r))):
			return fault.Field("username", "contains %q (%U), which looks like %q; choose another", r, r, confusable.Skeleton(string(r)))
		}
		mark = r
		if digit {
			system = zero
		}
	}
	if reads := withoutMarks(confusable.Skeleton(name)); !latin && isASCII(reads) {
		return fault.Field("username", "reads as %q in Latin letters, which it is not; choose another", reads)
	}
	return nil
}

// mixes are the scripts that may occur together (UTS #39 §5.2).
var mixes = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
}

func mayMix(scripts []string) bool {
	return len(scripts) < 2 || slices.ContainsFunc(mixes, func(mix []string) bool {
		return !slices.ContainsFunc(scripts, func(s string) bool { return !slices.Contains(mix, s) })
	})
}

// scriptsOf are the scripts of a name's letters and digits, sorted.
func scriptsOf(name string) []string {
	var scripts []string
	for _, r := range name {
		if script := scriptOf(r); script != "" && !slices.Contains(scripts, script) {
			scripts = append(scripts, script)
		}
	}
	slices.Sort(scripts)
	return scripts
}

// scriptOf is empty for what every script uses: ASCII digits, punctuation,
// marks.
func scriptOf(r rune) string {
	if '\u0660' <= r && r <= '\u0669' { // by its Script_Extensions, which package unicode lacks
		return "Arabic"
	}
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			if name == "Common" || name == "Inherited" {
				return ""
			}
			return name
		}
	}
	return ""
}

// zeroOf is the 0 of a decimal digit's system: Unicode has each system's digits
// in a row, from 0 to 9.
func zeroOf(r rune) (zero rune, digit bool) {
	for _, in := range unicode.Nd.R16 {
		if lo := rune(in.Lo); lo <= r && r <= rune(in.Hi) {
			return r - (r-lo)%10, true
		}
	}
	for _, in := range unicode.Nd.R32 {
		if lo := rune(in.Lo); lo <= r && r <= rune(in.Hi) {
			return r - (r-lo)%10, true
		}
	}
	return 0, false
}

func withoutMarks(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFD.String(s))
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}
