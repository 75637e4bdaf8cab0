package jose

import (
	"crypto"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"
)

// TestWycheproof has the vectors for JSON Web Signatures with our algorithms
// judged by the steps that every access token takes: strict segments, its
// header, and its signature by the key. No vector is an access token, so
// ReadHeader must refuse each; that the other steps accept the valid vectors
// shows that they do not refuse everything.
func TestWycheproof(t *testing.T) {
	raw, err := fs.ReadFile(wycheproof.TestVectors, "json_web_signature_test.json")
	must(t, err)
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
	must(t, json.Unmarshal(raw, &file))
	accepted, refused := 0, 0
	for _, group := range file.TestGroups {
		algorithm, _ := group.Public["alg"].(string)
		if algorithm != ES256 && algorithm != RS256 {
			continue
		}
		key := publicKeyOf(t, group.Public)
		for _, test := range group.Tests {
			if token, ok := Cut(test.JWS); ok {
				if _, ok := token.ReadHeader(TypeAccessToken); ok {
					t.Errorf("%d, %s: taken for an access token", test.ID, test.Comment)
				}
			}
			good := goodSignature(key, algorithm, test.JWS)
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

// goodSignature takes the steps of an access token up to the signature, with a
// header of any form that names the key's algorithm and nothing to obey.
func goodSignature(public crypto.PublicKey, algorithm, text string) bool {
	token, ok := Cut(text)
	if !ok {
		return false
	}
	header, ok := decodeMembers(token.Header)
	if !ok || header.Text("alg") != algorithm || header.Has("crit") || !header.OK() {
		return false
	}
	if _, ok := decodeSegment(token.Payload); !ok {
		return false
	}
	return Verify(public, token.Signed, token.Signature)
}

// publicKeyOf reads a vector's key, which may lack the members kid and alg, as
// one of a key set.
func publicKeyOf(t *testing.T, object map[string]any) crypto.PublicKey {
	t.Helper()
	object["kid"], object["use"] = "key", "sig"
	text, err := json.Marshal(map[string]any{"keys": []any{object}})
	must(t, err)
	keys, err := ParseKeySet(text)
	must(t, err)
	return keys["key"].Public
}
