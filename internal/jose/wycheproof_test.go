package auth

import (
	"crypto"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/c2sp/wycheproof"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/world"
)

// TestWycheproof has the vectors for JSON Web Signatures with our algorithms
// judged by the same steps that every access token takes: strict segments, the
// key named by the header, and its signature. No vector is an access token, so
// the whole verifier must refuse each; TestAlgorithms shows that it accepts
// tokens of these algorithms. That the steps accept the valid vectors shows here
// that they do not refuse everything.
func TestWycheproof(t *testing.T) {
	raw, err := fs.ReadFile(wycheproof.TestVectors, "json_web_signature_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		TestGroups []struct {
			Public map[string]any
			Tests  []struct {
				ID      int `json:"tcId"`
				Comment string
				JWS     string
				Result  string
				Flags   []string
			}
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	accepted, refused := 0, 0
	for _, group := range file.TestGroups {
		algorithm, _ := group.Public["alg"].(string)
		if algorithm != ES256 && algorithm != RS256 {
			continue
		}
		public, err := publicOf(texts(group.Public))
		if err != nil {
			t.Fatal(err)
		}
		id, err := thumbprint(public)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range group.Tests {
			first, _, _ := strings.Cut(test.JWS, ".")
			w := world.Real()
			w.Now = func() time.Time { return now }
			keys := newSigningKeys(Options{Issuer: "https://tollgate.test", Audience: "tollgate", World: w})
			keys.set.Store(newKeySet([]*signingKey{{id: id, algorithm: algorithm, public: public, header: first}}))
			if _, reason := keys.verify(test.JWS, now); reason == caller.ReasonOK {
				t.Errorf("%d, %s: taken for an access token", test.ID, test.Comment)
			}
			good := goodSignature(public, algorithm, test.JWS)
			switch {
			case test.Result == "valid" && good:
				accepted++
			case test.Result == "valid" && algorithm == RS256:
				t.Errorf("%d, %s: a valid signature is refused", test.ID, test.Comment)
			case test.Result != "valid" && good:
				t.Errorf("%d, %s: an invalid signature is accepted (%v)", test.ID, test.Comment, test.Flags)
			default:
				refused++
			}
		}
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 5 || refused < 200 {
		t.Errorf("%d accepted and %d refused: these are not the vectors", accepted, refused)
	}
}

// goodSignature takes the steps of signingKeys.open up to the signature, with a
// header of any form that names the key's algorithm and nothing to obey.
func goodSignature(public crypto.PublicKey, algorithm, token string) bool {
	signed, last, ok := cutLast(token)
	if !ok {
		return false
	}
	first, middle, ok := strings.Cut(signed, ".")
	if !ok {
		return false
	}
	header, ok := decodeMembers(first)
	if !ok {
		return false
	}
	if named, ok := textOf(header["alg"]); !ok || named != algorithm || header["crit"] != nil {
		return false
	}
	if _, ok := decodeSegment(middle); !ok {
		return false
	}
	signature, ok := decodeSegment(last)
	return ok && verifyText(public, []byte(signed), signature)
}

func texts(members map[string]any) map[string]string {
	out := map[string]string{}
	for name, value := range members {
		out[name], _ = value.(string)
	}
	return out
}
