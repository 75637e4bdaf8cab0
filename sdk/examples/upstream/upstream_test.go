// Package upstream_test runs upstream.py, which has no Go of its own.
package upstream_test

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/c2sp/wycheproof"
	"github.com/tollgatehq/tollgate/internal/jose"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

const audience = "orders"

// python returns a command of Python. Its absence fails the test.
func python(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath(cmp.Or(os.Getenv("TOLLGATE_TEST_PYTHON"), "python3"))
	if err != nil {
		t.Fatalf("there is no Python: install it (Debian: apt-get install python3), or name it in TOLLGATE_TEST_PYTHON (%v)", err)
	}
	// -I: nothing of the user's; -B: no __pycache__ beside the example.
	return exec.CommandContext(t.Context(), program, append([]string{"-I", "-B"}, args...)...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vector is a signature, in hexadecimal, and whether it is good.
type vector struct {
	Key, Message, Signature string
	good                    bool
}

// rfc8032 has the vectors of RFC 8032 §7.1 that are short.
var rfc8032 = []vector{
	{
		"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
		"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b", true,
	}, {
		"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
		"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00", true,
	}, {
		"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
		"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a", true,
	},
}

// points are keys of which one signature is good for every message if they are
// taken for the neutral point: R is the base point and s is 1. Only the first is
// a spelling of it (RFC 8032 §5.1.3).
func points() (all []vector) {
	signature := "58" + strings.Repeat("66", 31) + "01" + strings.Repeat("00", 31)
	for key, good := range map[string]bool{
		"01" + strings.Repeat("00", 31):            true,
		"01" + strings.Repeat("00", 30) + "80":     false, // x is 0, and its sign is set
		"ee" + strings.Repeat("ff", 30) + "7f":     false, // y is p + 1
		"ee" + strings.Repeat("ff", 31):            false,
		"02" + strings.Repeat("00", 31):            false, // not on the curve
		"01" + strings.Repeat("00", 30):            false, // short
		"01" + strings.Repeat("00", 32):            false, // long
		"0100000000000000000000000000000000000000": false,
	} {
		all = append(all, vector{key, "6d", signature, good})
	}
	return all
}

// wycheproofVectors are those of Ed25519.
func wycheproofVectors(t *testing.T) (all []vector) {
	t.Helper()
	raw, err := fs.ReadFile(wycheproof.TestVectors, "ed25519_test.json")
	must(t, err)
	var file struct {
		TestGroups []struct {
			PublicKey struct{ PK string }
			Tests     []struct{ Msg, Sig, Result string }
		}
	}
	must(t, json.Unmarshal(raw, &file))
	for _, group := range file.TestGroups {
		for _, test := range group.Tests {
			all = append(all, vector{group.PublicKey.PK, test.Msg, test.Sig, test.Result == "valid"})
		}
	}
	if len(all) < 100 {
		t.Fatalf("%d vectors", len(all))
	}
	return all
}

// TestEd25519 has the example's own Ed25519 judged by the vectors of RFC 8032 and
// Wycheproof: other spellings of a signature, of s, and of keys are refused.
func TestEd25519(t *testing.T) {
	t.Parallel()
	vectors := slices.Concat(rfc8032, points(), wycheproofVectors(t))
	for _, v := range rfc8032 {
		for i := range len(v.Signature) / 2 {
			signature, err := hex.DecodeString(v.Signature)
			must(t, err)
			signature[i] ^= 1
			vectors = append(vectors, vector{v.Key, v.Message, hex.EncodeToString(signature), false})
		}
		vectors = append(vectors, vector{v.Key, v.Message + "00", v.Signature, false}, vector{v.Key, v.Message, v.Signature + "00", false})
	}
	text, err := json.Marshal(vectors)
	must(t, err)
	cmd := python(t, "-c", `
import json, sys
sys.path.insert(0, ".")
import upstream
for v in json.load(sys.stdin):
    key = bytes.fromhex(v["Key"])
    print(upstream.decode_point(key) is not None, upstream.verify(key, bytes.fromhex(v["Message"]), bytes.fromhex(v["Signature"])))
`)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), os.Stderr
	out, err := cmd.Output()
	must(t, err)
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(answers) != len(vectors) {
		t.Fatalf("%d answers to %d vectors", len(answers), len(vectors))
	}
	for i, v := range vectors {
		key := v.good || !slices.Contains(points(), v) // the other vectors' keys are good
		if want := strings.ToUpper(fmt.Sprint(key, v.good)); strings.ToUpper(answers[i]) != want {
			t.Errorf("vector %d, %+v: %s, want %s", i, v, answers[i], want)
		}
	}
}

// upstream is a running upstream.py and its Tollgate.
type upstream struct {
	*sdktest.Server
	url string
}

// start starts upstream.py, after changes to its constants, for the permission
// orders:read.
func start(t *testing.T, changes string, args ...string) upstream {
	t.Helper()
	server := sdktest.NewServer(sdktest.WithAudience(audience))
	t.Cleanup(server.Close)
	server.SetRole("clerk", "orders:*")
	server.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}})
	run := "import sys; sys.path.insert(0, '.'); import upstream; " + changes + "; upstream.main()"
	cmd := python(t, append([]string{
		"-c", run, "--issuer", sdktest.Issuer, "--audience", audience, "--permission", "orders:read",
		"--jwks", server.URL + "/.well-known/jwks.json", "--listen", "127.0.0.1:0",
	}, args...)...)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var log bytes.Buffer
	cmd.Stderr = &log
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("upstream.py logged:\n%s", &log)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	_, url, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("upstream.py says %q", line)
	}
	return upstream{server, url}
}

// echo is what upstream.py answers with.
type echo struct {
	Method, Path string
	Headers      [][2]string
	BodyBytes    int
	Assertion    map[string]any

	Code, Message string
}

// ask sends a request with these assertions.
func (u upstream) ask(t *testing.T, method, path string, body io.Reader, assertions ...string) (*http.Response, echo) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, u.url, body)
	must(t, err)
	r.URL.Opaque = path
	for _, assertion := range assertions {
		r.Header.Add(tollgate.AssertionHeader, assertion)
	}
	r.Header["X-Twice"] = []string{"a", "b"}
	res, err := http.DefaultClient.Do(r)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	var got echo
	if method != http.MethodHead {
		must(t, json.Unmarshal(text, &got))
	}
	return res, got
}

func (u upstream) wantStatus(t *testing.T, want int, assertions ...string) {
	t.Helper()
	res, got := u.ask(t, http.MethodGet, "/", nil, assertions...)
	if res.StatusCode != want || (got.Assertion != nil) != (want == http.StatusOK) || (got.Message == "") != (want == http.StatusOK) {
		t.Errorf("status %d, %+v, want %d", res.StatusCode, got, want)
	}
	if challenge := res.Header.Get("WWW-Authenticate"); (challenge != "") != (want == http.StatusUnauthorized) {
		t.Errorf("status %d with the challenge %q", want, challenge)
	}
}

func TestUpstreamEchoes(t *testing.T) {
	t.Parallel()
	u := start(t, "pass")
	for _, method := range []string{"GET", "POST", "PROPFIND", "HEAD"} { // on one connection
		res, got := u.ask(t, method, "/a//../b%2F%00;c?d=//e", strings.NewReader("body"),
			u.Assertion("alice", "orders:read", sdktest.Claim("resource", "orders/42")))
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d, %+v", method, res.StatusCode, got)
		}
		if method == http.MethodHead {
			continue
		}
		if got.Method != method || got.Path != "/a//../b%2F%00;c?d=//e" || got.BodyBytes != 4 ||
			got.Assertion["username"] != "alice" || got.Assertion["resource"] != "orders/42" {
			t.Errorf("%s: %+v", method, got)
		}
		for _, header := range [][2]string{{"X-Twice", "a"}, {"X-Twice", "b"}, {"Content-Length", "4"}} {
			if !slices.Contains(got.Headers, header) {
				t.Errorf("%s: headers %v lack %v", method, got.Headers, header)
			}
		}
	}
	if res, _ := u.ask(t, "POST", "/", io.MultiReader(strings.NewReader("no length"))); res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body without a length: status %d", res.StatusCode)
	}
}

func TestUpstreamRefuses(t *testing.T) {
	t.Parallel()
	u := start(t, "pass")
	good := u.Assertion("alice", "orders:read")
	u.wantStatus(t, 200, good)
	part := strings.Split(good, ".")
	segment := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	header, err := base64.RawURLEncoding.DecodeString(part[0])
	must(t, err)
	reheader := func(old, new string) string {
		return segment(strings.Replace(string(header), old, new, 1)) + "." + part[1] + "." + part[2]
	}
	forger := sdktest.NewServer(sdktest.WithAudience(audience))
	defer forger.Close()
	forger.SetUser(sdktest.User{Name: "alice"})
	forged := strings.Split(forger.Assertion("alice", "orders:read"), ".")
	now := time.Now()
	for name, bad := range map[string][]string{
		"none": nil, "an empty one": {""}, "two": {good, good}, "a good one first": {good, "x"}, "two in one": {good + "," + good},
		"no token": {"alice"}, "four segments": {good + ".x"}, "unsigned": {part[0] + "." + part[1] + "."}, "padding": {good + "=="},
		"another spelling": {part[0] + "." + part[1] + "." + part[2][:85] + map[bool]string{true: "B", false: "A"}[part[2][85] != 'B']},
		"another body":     {part[0] + "." + segment(`{"sub":"root"}`) + "." + part[2]},
		"an unknown key's": {strings.Join(forged, ".")}, "another key's under our kid": {part[0] + "." + forged[1] + "." + forged[2]},
		"alg none": {reheader("EdDSA", "none")}, "alg RS256": {reheader("EdDSA", "RS256")}, "typ JWT": {reheader("tollgate-assertion+jwt", "JWT")},
		"crit": {reheader("{", `{"crit":["x"],`)}, "jwk": {reheader("{", `{"jwk":{},`)}, "kid of a number": {reheader(`"kid":"`, `"kid":1,"x":"`)},
		"alg twice": {reheader("{", `{"alg":"EdDSA",`)}, "no object": {segment("[]") + "." + part[1] + "." + part[2]},
		"deep": {segment(strings.Repeat("[", 5000)) + ".a.a"}, "no UTF-8": {segment("\xff") + ".a.a"}, "not ASCII": {"é.é.é"},
		"oversized":      {u.Assertion("alice", "orders:read", sdktest.Claim("resource", strings.Repeat("r", 8192)))},
		"access token":   {u.Token("alice")},
		"expired":        {u.Assertion("alice", "orders:read", sdktest.ExpiresAt(now.Add(-time.Second)))},
		"of the future":  {u.Assertion("alice", "orders:read", sdktest.Claim("iat", now.Unix()+130), sdktest.Claim("exp", now.Unix()+180))},
		"lives too long": {u.Assertion("alice", "orders:read", sdktest.ExpiresAt(now.Add(time.Hour)))},
		"iat is text":    {u.Assertion("alice", "orders:read", sdktest.Claim("iat", "1"))}, "no exp": {u.Assertion("alice", "orders:read", sdktest.Claim("exp", nil))},
		"foreign audience": {u.Assertion("alice", "orders:read", sdktest.Claim("aud", "profiles"))},
		"audiences":        {u.Assertion("alice", "orders:read", sdktest.Claim("aud", []string{audience}))},
		"other issuer":     {u.Assertion("alice", "orders:read", sdktest.Claim("iss", sdktest.Issuer+"/"))},
		"unknown kind":     {u.Assertion("alice", "orders:read", sdktest.Claim("kind", "admin"))},
	} {
		t.Run(name, func(t *testing.T) { u.wantStatus(t, 401, bad...) })
	}
	for name, bad := range map[string]string{
		"another permission": u.Assertion("alice", "profile:read"), "a wildcard": u.Assertion("alice", "orders:*"),
		"no permission": u.Assertion("alice", "orders:read", sdktest.Claim("permission", nil)), "a public route's": u.Assertion("", ""),
		"a list":                             u.Assertion("alice", "orders:read", sdktest.Claim("permission", []string{"orders:read"})),
		"a public route's with a permission": u.Assertion("", "", sdktest.Claim("permission", "orders:read")),
	} {
		t.Run(name, func(t *testing.T) { u.wantStatus(t, 403, bad) })
	}
}

// TestUpstreamForms: with a good signature, too, a token must have the form and the
// type of an assertion.
func TestUpstreamForms(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	set, err := jose.EncodeKeySet([]jose.Key{{ID: "k", Algorithm: jose.EdDSA, Public: public}})
	must(t, err)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	defer keys.Close()
	u := start(t, "pass", "--jwks", keys.URL)
	const header = `{"alg":"EdDSA","kid":"k","typ":"tollgate-assertion+jwt"}`
	now := time.Now().Unix()
	claims := fmt.Sprintf(`{"iss":%q,"aud":"orders","kind":"person","permission":"orders:read","iat":%d,"exp":%d}`, sdktest.Issuer, now, now+60)
	sign := func(header, claims string) string {
		token, err := jose.Encode(base64.RawURLEncoding.EncodeToString([]byte(header)), []byte(claims), private)
		must(t, err)
		return token
	}
	swap := func(text, old, new string) string { return strings.Replace(text, old, new, 1) }
	u.wantStatus(t, 200, sign(header, claims))
	for name, bad := range map[string]string{
		"access token": swap(header, "tollgate-assertion+jwt", jose.TypeAccessToken), "any JWT": swap(header, "tollgate-assertion+jwt", "JWT"),
		"no type": swap(header, `,"typ":"tollgate-assertion+jwt"`, ""), "no algorithm": swap(header, `"alg":"EdDSA",`, ""),
		"alg none": swap(header, "EdDSA", "none"), "alg RS256": swap(header, "EdDSA", "RS256"), "crit": swap(header, "{", `{"crit":[],`),
		"jwk": swap(header, "{", `{"jwk":{},`), "alg twice": swap(header, "{", `{"alg":"none",`), "no kid": swap(header, `"kid":"k",`, ""),
	} {
		t.Run(name, func(t *testing.T) { u.wantStatus(t, 401, sign(bad, claims)) })
	}
	for name, bad := range map[string]string{
		"audience twice": swap(claims, "{", `{"aud":"profiles",`), "no object": "[" + claims + "]", "two": claims + claims, "no UTF-8": swap(claims, "person", "person\xff"),
	} {
		t.Run(name, func(t *testing.T) { u.wantStatus(t, 401, sign(header, bad)) })
	}
}

// TestUpstreamKeys: it refuses everything before it has keys, fetches them for an
// unknown kid, and forgets those that left the key set.
func TestUpstreamKeys(t *testing.T) {
	t.Parallel()
	u := start(t, "upstream.KEYS_WAIT = 0", "--public", "--permission", "")
	u.SetDown(true)
	old := u.Assertion("alice", "orders:read")
	res, _ := u.ask(t, "GET", "/", nil, old)
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("without keys: status %d, %v", res.StatusCode, res.Header)
	}
	u.SetDown(false)
	u.wantStatus(t, 200, old)
	before := u.Calls("jwks.json")
	u.wantStatus(t, 200, u.Assertion("", ""))      // of a public route
	u.wantStatus(t, 200, u.Assertion("alice", "")) // any good credential was enough
	u.wantStatus(t, 403, u.Assertion("alice", "profile:read"))
	u.wantStatus(t, 200, old)
	if n := u.Calls("jwks.json") - before; n != 0 {
		t.Errorf("the keys were fetched %d times", n)
	}
	u.RemoveKey()
	u.wantStatus(t, 200, u.Assertion("alice", "orders:read"))
	u.wantStatus(t, 401, old)
	u.SetDown(true)
	u.wantStatus(t, 200, u.Assertion("alice", "orders:read"))
}

func TestUpstreamUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--issuer", "i", "--audience", "a"}} {
		if out, err := python(t, append([]string{"upstream.py"}, args...)...).CombinedOutput(); err == nil || !strings.Contains(string(out), "usage:") {
			t.Error(fmt.Sprint(args), err, string(out))
		}
	}
}
