// Package jose reads, checks and writes the access tokens, the assertions and the
// public keys of Tollgate, for the server and for the SDK: JSON Web Signatures in their
// compact form (RFC 7515), JSON Web Tokens (RFC 7519), and JSON Web Keys (RFC
// 7517) of the algorithms EdDSA, ES256 and RS256. It follows RFC 8725.
//
// It takes one spelling of everything: canonical base64url, a header of three
// members, no member twice, low-s signatures. So two texts are never the same
// token, and what was verified can be remembered by its hash.
package jose

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	// MaxTokenSize is the size in bytes above which a token is refused unread.
	MaxTokenSize = 8 << 10

	maxKeyID = 128 // bytes of a "kid"
)

// The types of tokens, the "typ" of their headers. One key signs them all, so
// the type is what keeps one from passing for another (RFC 8725 §3.11).
const (
	TypeAccessToken = "at+jwt"                 // RFC 9068 §2.1
	TypeAssertion   = "tollgate-assertion+jwt" // what a proxy tells a service about a call
	TypeMetadata    = "JWT"                    // what the server says of itself; general, because libraries refuse other types
)

// Token is the parts of a token. Nothing of it is verified.
type Token struct {
	Signed    string // the first two segments, what the signature is over
	Header    string // the first segment as it stands
	Payload   string // the second segment as it stands
	Signature []byte
}

// Cut takes a token apart: three segments of which the last is canonical
// base64url (RFC 7515 §5.2). It reads neither header nor payload. It reports
// false for anything else, and for more than MaxTokenSize bytes.
func Cut(token string) (Token, bool) {
	if len(token) > MaxTokenSize || strings.Count(token, ".") != 2 {
		return Token{}, false
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, last, _ := strings.Cut(rest, ".")
	signature, ok := decodeSegment(last)
	if !ok {
		return Token{}, false
	}
	return Token{Signed: token[:len(header)+1+len(payload)], Header: header, Payload: payload, Signature: signature}, true
}

// Header is the header of a token (RFC 7515 §4.1).
type Header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// EncodeHeader returns the first segment of the tokens of a type that a key
// signs. All of them have the same, byte for byte.
func EncodeHeader(algorithm, keyID, typ string) string {
	text, err := json.Marshal(Header{Algorithm: algorithm, KeyID: keyID, Type: typ})
	if err != nil {
		panic(err) // it is made of strings
	}
	return encodeSegment(text)
}

// ReadHeader reads the header: alg, kid and typ, in any order. It reports false
// for any other type than typ, byte for byte, and for a header with any other
// member, so that no crit, jwk or jku is ever obeyed.
func (t Token) ReadHeader(typ string) (Header, bool) {
	r, ok := decodeMembers(t.Header)
	if !ok || len(r.members) != 3 {
		return Header{}, false
	}
	h := Header{Algorithm: r.Text("alg"), KeyID: r.Text("kid"), Type: r.Text("typ")}
	return h, r.OK() && h.Type == typ && len(h.KeyID) <= maxKeyID
}

// ReadClaims reads the payload. Call it when the signature is known to be good.
// It reports false when the payload is not a JSON object in canonical base64url
// and UTF-8 of which no member appears twice.
func (t Token) ReadClaims() (Claims, bool) { return decodeMembers(t.Payload) }

// Encode returns a token with this header segment and these claims, signed with
// the key.
func Encode(header string, claims []byte, private crypto.Signer) (string, error) {
	signed := header + "." + encodeSegment(claims)
	signature, err := Sign(private, signed)
	if err != nil {
		return "", err
	}
	return signed + "." + encodeSegment(signature), nil
}

func encodeSegment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decodeSegment decodes base64url without padding, and only the one spelling
// that the bytes have: no line breaks, no unused bits set.
func decodeSegment(segment string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	return raw, err == nil && base64.RawURLEncoding.EncodeToString(raw) == segment
}

// decodeMembers decodes a segment that holds a JSON object of which no member
// appears twice.
func decodeMembers(segment string) (Claims, bool) {
	raw, ok := decodeSegment(segment)
	if !ok || !utf8.Valid(raw) {
		return Claims{}, false
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return Claims{}, false
	}
	object := make(map[string]json.RawMessage, 12)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return Claims{}, false
		}
		name, ok := token.(string)
		if _, twice := object[name]; !ok || twice {
			return Claims{}, false
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return Claims{}, false
		}
		object[name] = value
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return Claims{}, false
	}
	_, err := decoder.Token()
	return Claims{members: object}, errors.Is(err, io.EOF)
}
