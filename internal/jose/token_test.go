package jose

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCut: a token has three segments, the last one in its only spelling.
func TestCut(t *testing.T) {
	token, ok := Cut("aGVhZGVy.cGF5bG9hZA.c2lnbg")
	if !ok || token.Signed != "aGVhZGVy.cGF5bG9hZA" || token.Header != "aGVhZGVy" || token.Payload != "cGF5bG9hZA" ||
		string(token.Signature) != "sign" {
		t.Errorf("%+v, %t", token, ok)
	}
	for _, text := range []string{
		"", "a", "a.b", "a.b.c2lnbg.d", ".a.b.c2lnbg", "a.b.c2lnbg=", "a.b.c2lnbg==", "a.b.c2lnbg\n", "a.b.c2ln\nbg", "a.b.c2lnbh",
		"a.b.+/+/", "a.b.c", "a.b. c2lnbg", strings.Repeat("a", MaxTokenSize) + ".b.c2lnbg",
	} {
		if token, ok := Cut(text); ok {
			t.Errorf("%.40q: %+v", text, token)
		}
	}
}

// TestReadHeader: alg, kid, typ and nothing else, each once.
func TestReadHeader(t *testing.T) {
	want := Header{Algorithm: EdDSA, KeyID: "key", Type: "at+jwt"}
	if got, ok := (Token{Header: EncodeHeader(EdDSA, "key", TypeAccessToken)}).ReadHeader(TypeAccessToken); !ok || got != want {
		t.Errorf("%+v, %t", got, ok)
	}
	for _, text := range []string{
		``, `null`, `[]`, `{}`, `{"alg":"EdDSA","kid":"key"}`, `{"alg":"EdDSA","kid":"key","typ":"JWT"}`,
		`{"alg":"EdDSA","kid":"key","typ":"at+jwt","crit":[]}`, `{"alg":"EdDSA","kid":"key","typ":"at+jwt","jwk":{}}`,
		`{"alg":"EdDSA","kid":"key","crit":[]}`, `{"alg":"","kid":"key","typ":"at+jwt"}`, `{"alg":"EdDSA","kid":1,"typ":"at+jwt"}`,
		`{"alg":"EdDSA","kid":null,"typ":"at+jwt"}`, `{"alg":"none","alg":"EdDSA","kid":"key","typ":"at+jwt"}`,
		`{"\u0061lg":"none","alg":"EdDSA","kid":"key","typ":"at+jwt"}`, `{"alg":"EdDSA","kid":"key","typ":"at+jwt"}{}`,
		`{"alg":"EdDSA","kid":"key","typ":"at+jwt"`, "{\"alg\":\"EdDSA\",\"kid\":\"\xff\",\"typ\":\"at+jwt\"}",
		`{"alg":"EdDSA","kid":"` + strings.Repeat("k", maxKeyID+1) + `","typ":"at+jwt"}`,
	} {
		if got, ok := (Token{Header: encodeSegment([]byte(text))}).ReadHeader(TypeAccessToken); ok {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// TestReadHeaderOfAnotherType: a token passes for one of its own type only.
func TestReadHeaderOfAnotherType(t *testing.T) {
	types := []string{TypeAccessToken, TypeAssertion, "AT+JWT", "application/at+jwt", "JWT", "Tollgate-Assertion+jwt", ""}
	for _, is := range types {
		for _, wanted := range types[:2] {
			got, ok := Token{Header: EncodeHeader(EdDSA, "key", is)}.ReadHeader(wanted)
			if ok != (is == wanted) {
				t.Errorf("%q, read as %q: %+v, %t", is, wanted, got, ok)
			}
		}
	}
}

// TestClaims: a claim of another form is noted, whatever is read after it.
func TestClaims(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	text := func(c *Claims) { c.Text("x") }
	texts := func(c *Claims) { c.Texts("x", 16) }
	seconds := func(c *Claims) { c.Seconds("x") }
	flag := func(c *Claims) { c.Flag("x") }
	period := func(c *Claims) { c.Period(now) }
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	times := func(issued, expires any, more string) string {
		return fmt.Sprintf(`{"iat":%v,"exp":%v%s}`, issued, expires, more)
	}
	for _, c := range []struct {
		read func(*Claims)
		good bool
		json string
	}{
		{text, true, `{"x":"a"}`}, {text, false, `{}`}, {text, false, `{"x":""}`}, {text, false, `{"x":null}`}, {text, false, `{"x":1}`},
		{texts, true, `{"x":["a","b"]}`}, {texts, true, `{"x":[]}`}, {texts, false, `{"x":null}`}, {texts, false, `{}`},
		{texts, false, `{"x":["a",null]}`}, {texts, false, `{"x":["",  "a"]}`}, {texts, false, `{"x":"a"}`},
		{texts, false, `{"x":["a"` + strings.Repeat(`,"a"`, 16) + `]}`},
		{seconds, true, `{"x":1}`}, {seconds, false, `{}`}, {seconds, false, `{"x":0}`}, {seconds, false, `{"x":-1}`},
		{seconds, false, `{"x":"1"}`}, {seconds, false, `{"x":1.5}`}, {seconds, false, `{"x":1e9}`}, {seconds, false, `{"x":253402300800}`},
		{flag, true, `{}`}, {flag, true, `{"x":true}`}, {flag, true, `{"x":false}`}, {flag, false, `{"x":null}`}, {flag, false, `{"x":"true"}`},
		{period, true, times(at(0), at(1*time.Second), "")}, {period, false, times(at(0), at(0), "")},
		{period, true, times(at(ClockSkew), at(time.Hour), "")}, {period, false, times(at(ClockSkew+time.Second), at(time.Hour), "")},
		{period, true, times(at(-2*time.Hour), at(-time.Hour), "")}, {period, false, times(`"1"`, at(time.Hour), "")},
		{period, true, times(at(0), at(time.Hour), fmt.Sprintf(`,"nbf":%d`, at(ClockSkew)))},
		{period, false, times(at(0), at(time.Hour), fmt.Sprintf(`,"nbf":%d`, at(ClockSkew+time.Second)))},
		{period, false, times(at(0), at(time.Hour), `,"nbf":"0"`)}, {period, false, times(at(0), at(time.Hour), `,"nbf":null`)},
	} {
		claims, ok := (Token{Payload: encodeSegment([]byte(c.json))}).ReadClaims()
		if !ok {
			t.Fatalf("%s is not read", c.json)
		}
		c.read(&claims)
		claims.Flag("absent")
		if claims.OK() != c.good {
			t.Errorf("%s: good %t, want %t", c.json, claims.OK(), c.good)
		}
	}
}
