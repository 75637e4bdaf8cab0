package username

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

func TestNewNamesAreInOneScript(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"admin": true, "a.b-c_d+e@example.com": true, "josé": true, "ørsted": true, "łukasz": true, "ışık": true,
		"þór": true, "straße": true, "đặng": true, "o'brien": true, "user123": true, "123": true, "🦊": true, "fox🦊": true,
		"иван": true, "иван-2": true, "анна": true, "мария": true, "мар'яна": true, "νίκος": true, "μαρία": true,
		"דוד": true, "محمد": true, "محمد٣": true, "प्रिया": true, "प्रिया१२": true, "ธนา": true, "անի": true, "გია": true,
		"田中": true, "たなか": true, "タナカ": true, "田中たろう": true, "tanaka田中": true, "sony社のタ": true, "wang王": true,
		"ㄨㄤ王": true, "김철수": true, "kim金철수": true, "李小龙": true,

		"аdmin":             false, // a Cyrillic а, as in the review
		"admіn":             false, // a Cyrillic і
		"αdmin":             false, // a Greek alpha
		"rοοt":              false, // Greek omicrons
		"аԁмin":             false,
		"ivanиван":          false,
		"νίκοςиван":         false,
		"adminא":            false,
		"kim김かな":            false, // Hangul and kana never
		"ㄨㄤかな":              false,
		"иван田中":            false,
		"aꭺ":                false, // a Cherokee letter
		"admin٠":            false, // Arabic digits beside Latin letters
		"user०":             false, // Devanagari ones
		"محمد٣۳":            false, // two systems of Arabic digits
		"प्रिया1२":          false, // ASCII digits and Devanagari ones
		"сосо":              false, // all Cyrillic
		"сара":              false,
		"ѕсоре":             false, // all Cyrillic for scope
		"јоѕе\u0301":        false, // all Cyrillic for josé
		"ορο":               false, // all Greek
		"ծօօ-օօ":            true,  // ծ is no Latin letter
		"օօօ":               false, // all Armenian
		"сосо-1":            false, // what is common to all scripts does not help
		"сосо😀":             true,  // … but what no ASCII name has does
		"ɑdmin":             false, // a Latin alpha
		"ɡoogle":            false, // a Latin script g
		"admin‐x":           false, // a hyphen that is not the keyboard's
		"a∕b":               false, // a division slash
		"o’brien":           false, // a curly apostrophe
		"admi\u0323\u0323n": false,
		"é\u0301":           false, // é and one more accent, which fonts draw in one place
	} {
		canonical, err := Canonical(name)
		if err != nil {
			t.Errorf("%q has no canonical form: %v", name, err)
			continue
		}
		err = CheckNew(canonical)
		if good && err != nil {
			t.Errorf("%q: %v", name, err)
		} else if !good {
			if err == nil {
				t.Errorf("%q is taken", name)
			} else {
				faulttest.WantField(t, err, "username")
			}
		}
	}
}

// TestNoNameImitatesAdmin: whatever looks like the first administrator, letter
// by letter, is refused, however many letters are replaced.
func TestNoNameImitatesAdmin(t *testing.T) {
	t.Parallel()
	like := map[rune]string{'a': "аαɑ", 'd': "ԁ", 'i': "іι", 'n': "ո", 's': "ѕ", 'c': "с", 'o': "оοօ", 'p': "рρ", 'e': "е", 'x': "х", 'y': "у", 'j': "ј", 'h': "һհ", 'q': "ԛ", 'w': "ԝա"}
	rapid.Check(t, func(t *rapid.T) {
		real := rapid.SampledFrom([]string{"admin", "coco", "scope", "oncall", "jose", "cashdesk", "q", "ann"}).Draw(t, "real")
		var fake strings.Builder
		for _, r := range real {
			choice := []rune(string(r) + like[r])
			fake.WriteRune(rapid.SampledFrom(choice).Draw(t, "letter"))
		}
		name, err := Canonical(fake.String())
		if err != nil {
			t.Fatal(err)
		}
		if CheckNew(name) == nil && name != real {
			t.Fatalf("%q (%+q) passes for %q", name, name, real)
		}
	})
}

// TestASCIINamesAreTaken: nothing in ASCII is refused for its looks.
func TestASCIINamesAreTaken(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name, err := Canonical(rapid.StringMatching(`[!-~]{1,128}`).Draw(t, "name"))
		if err != nil {
			return
		}
		if err := CheckNew(name); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	})
}

// TestDigitSystems: each system has ten digits in a row, which zeroOf relies on.
func TestDigitSystems(t *testing.T) {
	t.Parallel()
	of := map[rune]int{}
	for r := range rune(unicode.MaxRune + 1) {
		zero, digit := zeroOf(r)
		if digit != unicode.Is(unicode.Nd, r) {
			t.Fatalf("%U: digit %t", r, digit)
		}
		if digit {
			of[zero]++
			if !unicode.Is(unicode.Nd, zero) {
				t.Errorf("%U has the zero %U", r, zero)
			}
		}
	}
	for zero, n := range of {
		if n != 10 {
			t.Errorf("the system of %U has %d digits", zero, n)
		}
	}
}

func FuzzNewName(f *testing.F) {
	for _, seed := range []string{"admin", "аdmin", "сосо", "田中tanaka", "٣۳", "é\u0301", "\u0301", "𝟘𝟙", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := Canonical(text)
		if err != nil || CheckNew(name) != nil {
			return
		}
		// What is taken has no letter in two scripts that do not mix, however
		// it is composed.
		if scripts := scriptsOf(norm.NFD.String(name)); !mayMix(scripts) || !utf8.ValidString(name) {
			t.Errorf("%+q is in %v", name, scripts)
		}
	})
}
