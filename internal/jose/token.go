package sdk

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxToken = 8 << 10 // bytes; what is longer is not looked at
	maxKeyID = 128     // bytes of a "kid"
	maxTexts = 16      // in a list

	// maxSkew is how far in the future a token may have been issued: what the
	// clocks of Tollgate and this machine may differ by. The end of a token has
	// no leeway.
	maxSkew = time.Minute

	tokenType = "at+jwt" // RFC 9068 §2.1
)

// jwt is an access token taken apart. Nothing of it is verified.
type jwt struct {
	signed     string // what the signature is over
	body       string
	signature  []byte
	algorithm  string
	keyID      string
	wellFormed bool
}

// cutToken reads the form of a token and its header, and nothing of its
// claims (RFC 7515 §5.2, RFC 8725 §3): three segments of canonical base64url,
// and a header of alg, kid and typ, so that no crit, jwk or jku is ever looked
// at.
func cutToken(token string) jwt {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return jwt{}
	}
	head, rest, _ := strings.Cut(token, ".")
	body, last, _ := strings.Cut(rest, ".")
	signature, ok := decodeSegment(last)
	if !ok {
		return jwt{}
	}
	header, ok := decodeMembers(head)
	if !ok || len(header) != 3 {
		return jwt{}
	}
	r := claimReader{members: header}
	t := jwt{
		signed: token[:len(head)+1+len(body)], body: body, signature: signature,
		algorithm: r.text("alg"), keyID: r.text("kid"),
	}
	t.wellFormed = r.text("typ") == tokenType && !r.bad && len(t.keyID) <= maxKeyID
	return t
}

// claims is what an access token says that is good but for its time.
type claims struct {
	key       *publicKey // whose signature it has
	userID    string
	sessionID string // empty for a token that an API key was traded for
	apiKeyID  string // empty for a token of a session
	scopes    []string
	audience  string // whoever it is for
	amr       []string
	authTime  time.Time // zero: it does not say
	expires   time.Time

	// passwordChange leaves the user nothing but to choose a new password.
	passwordChange bool
}

// readClaims checks that every claim is there, of its type and right, but for
// its audience and the token's end, which is at most ttl after its beginning.
// The signature is known to be good.
func readClaims(body, issuer string, ttl time.Duration, now time.Time) (claims, bool) {
	object, ok := decodeMembers(body)
	if !ok {
		return claims{}, false
	}
	r := claimReader{members: object}
	issued, expires := r.seconds("iat"), r.seconds("exp")
	c := claims{userID: r.text("sub"), audience: r.text("aud"), expires: expires}
	if end := issued.Add(ttl); end.Before(expires) {
		c.expires = end
	}
	r.text("jti")
	r.text("client_id")
	if _, machine := object["api_key_id"]; machine {
		c.apiKeyID = r.text("api_key_id")
		_, both := object["sid"]
		r.bad = r.bad || both
	} else {
		c.sessionID = r.text("sid")
	}
	if _, narrowed := object["scope"]; narrowed {
		c.scopes = strings.Fields(r.text("scope"))
		r.bad = r.bad || c.apiKeyID == "" || len(c.scopes) == 0
	}
	latest := now.Add(maxSkew)
	if r.text("iss") != issuer || !expires.After(issued) || issued.After(latest) {
		return claims{}, false
	}
	if _, present := object["nbf"]; present && r.seconds("nbf").After(latest) {
		return claims{}, false
	}
	if _, present := object["amr"]; present {
		c.amr = r.texts("amr")
	}
	if _, present := object["auth_time"]; present {
		c.authTime = r.seconds("auth_time")
	}
	if raw, present := object["password_change"]; present {
		c.passwordChange = string(raw) == "true"
		r.bad = r.bad || !c.passwordChange && string(raw) != "false"
	}
	return c, !r.bad
}

// members is a JSON object.
type members map[string]json.RawMessage

// claimReader reads members and notes whether one was missing, empty or of
// another type.
type claimReader struct {
	members members
	bad     bool
}

func (r *claimReader) text(name string) string {
	raw := r.members[name]
	var text string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil || text == "" {
		r.bad = true
	}
	return text
}

// texts is a list of texts, such as RFC 8176's of how somebody signed in.
func (r *claimReader) texts(name string) []string {
	var list []json.RawMessage
	if json.Unmarshal(r.members[name], &list) != nil || list == nil || len(list) > maxTexts {
		r.bad = true
		return nil
	}
	texts := make([]string, len(list))
	for i, raw := range list {
		if raw[0] != '"' || json.Unmarshal(raw, &texts[i]) != nil || texts[i] == "" {
			r.bad = true
		}
	}
	return texts
}

// seconds is a NumericDate in whole seconds (RFC 7519 §2) up to the year 9999.
func (r *claimReader) seconds(name string) time.Time {
	seconds, err := strconv.ParseInt(string(r.members[name]), 10, 64)
	if err != nil || seconds <= 0 || seconds > 253402300799 {
		r.bad = true
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// decodeSegment decodes base64url without padding, and only the one spelling
// that the bytes have: no line breaks, no unused bits set.
func decodeSegment(segment string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	return raw, err == nil && base64.RawURLEncoding.EncodeToString(raw) == segment
}

// decodeMembers decodes a segment that holds a JSON object of which no member
// appears twice.
func decodeMembers(segment string) (members, bool) {
	raw, ok := decodeSegment(segment)
	if !ok || !utf8.Valid(raw) {
		return nil, false
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return nil, false
	}
	object := make(members, 10)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, false
		}
		name, ok := token.(string)
		if _, twice := object[name]; !ok || twice {
			return nil, false
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, false
		}
		object[name] = value
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, false
	}
	_, err := decoder.Token()
	return object, errors.Is(err, io.EOF)
}
