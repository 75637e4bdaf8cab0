package auth

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/caller"
)

const (
	// maxToken is the size in bytes above which a token is not looked at.
	maxToken = 8 << 10
	// maxSkew is how far in the future a token may have been issued: what the
	// clocks of two instances may differ by. The end of a token has no leeway.
	maxSkew = time.Minute
	// verifiedTokens is how many verified tokens are remembered.
	verifiedTokens = 50_000

	tokenType = "at+jwt" // RFC 9068 §2.1
)

// accessClaims is what an access token says. All of it is required, to the
// second; the issuer is the server's own.
type accessClaims struct {
	Subject   string // the user's id
	SessionID string // set unless APIKeyID is
	ID        string // of the token
	ClientID  string
	Audience  string    // the service that it is for; sign takes empty for the server's own
	APIKeyID  string    // the key that it was issued to and that it ends with
	Scope     string    // what it is narrowed to, patterns with spaces between; only with APIKeyID
	AMR       []string  // how the user signed in; only with SessionID
	AuthTime  time.Time // when; only with SessionID. Zero: the token is of a version that did not say
	IssuedAt  time.Time
	ExpiresAt time.Time

	// PasswordChange leaves the user nothing but SetPassword.
	PasswordChange bool
}

type tokenHash [sha256.Size]byte

// verifiedToken is what is remembered of a token whose signature was good.
type verifiedToken struct {
	header string // names its key
	claims accessClaims
}

// header and payload are a token's JSON as sign writes it (RFC 9068 §2).
type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

type payload struct {
	Issuer         string `json:"iss"`
	Subject        string `json:"sub"`
	Audience       string `json:"aud"`
	ExpiresAt      int64  `json:"exp"`
	IssuedAt       int64  `json:"iat"`
	ID             string `json:"jti"`
	ClientID       string `json:"client_id"`
	SessionID      string `json:"sid,omitempty"`
	APIKeyID       string `json:"api_key_id,omitempty"`
	Scope          string `json:"scope,omitempty"`
	PasswordChange bool   `json:"password_change,omitempty"`

	// OpenID Connect Core 1.0 §2, in access tokens by RFC 9068 §2.2.1.
	AMR      []string `json:"amr,omitempty"`
	AuthTime int64    `json:"auth_time,omitempty"`
}

// tokenHeader is the first segment of the tokens that a key signs.
func tokenHeader(algorithm, keyID string) string {
	text, err := json.Marshal(header{Algorithm: algorithm, KeyID: keyID, Type: tokenType})
	if err != nil {
		panic(err) // it is made of strings
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// sign makes an access token (RFC 9068) with the key in force.
func (k *signingKeys) sign(claims accessClaims) (string, error) {
	if claims.Subject == "" || (claims.SessionID == "") == (claims.APIKeyID == "") || claims.ID == "" || claims.ClientID == "" ||
		claims.IssuedAt.IsZero() || claims.ExpiresAt.Unix() <= claims.IssuedAt.Unix() {
		return "", errors.New("sign access token: a claim is missing")
	}
	key := k.set.Load().signer(k.world.Now())
	if key == nil {
		return "", errNoSigner()
	}
	text := payload{
		Issuer: k.issuer, Subject: claims.Subject, Audience: cmp.Or(claims.Audience, k.audience),
		ExpiresAt: claims.ExpiresAt.Unix(), IssuedAt: claims.IssuedAt.Unix(),
		ID: claims.ID, ClientID: claims.ClientID, SessionID: claims.SessionID, PasswordChange: claims.PasswordChange,
		APIKeyID: claims.APIKeyID, Scope: claims.Scope, AMR: claims.AMR,
	}
	if !claims.AuthTime.IsZero() {
		text.AuthTime = claims.AuthTime.Unix()
	}
	body, err := json.Marshal(text)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	signed := key.header + "." + base64.RawURLEncoding.EncodeToString(body)
	signature, err := signText(key.private, []byte(signed), k.world)
	if err != nil {
		return "", fmt.Errorf("sign access token: %w", err)
	}
	token := signed + "." + base64.RawURLEncoding.EncodeToString(signature)
	if len(token) > maxToken {
		return "", fmt.Errorf("sign access token: it would have %d bytes, more than %d", len(token), maxToken)
	}
	return token, nil
}

// verify says whether a token is one of ours and good at now: OK with its
// claims, Expired when nothing but its time is wrong, otherwise Invalid. It
// does not know about revocation, nor whether the token was meant for whoever
// was shown it: compare the audience.
//
// A token that was verified before costs one hash; its end and whether its key
// still verifies are looked at each time.
func (k *signingKeys) verify(token string, now time.Time) (accessClaims, caller.Reason) {
	if len(token) > maxToken {
		return accessClaims{}, caller.ReasonCredentialInvalid
	}
	set, hash := k.set.Load(), tokenHash(sha256.Sum256([]byte(token)))
	known, ok := k.verified.GetIfPresent(hash)
	switch {
	case !ok:
		known, ok = k.open(set, token, now)
		if !ok {
			return accessClaims{}, caller.ReasonCredentialInvalid
		}
		if now.Before(known.claims.ExpiresAt) {
			k.verified.Set(hash, known)
		}
	case set.key(known.header, now) == nil:
		k.verified.Invalidate(hash)
		return accessClaims{}, caller.ReasonCredentialInvalid
	}
	if !now.Before(known.claims.ExpiresAt) {
		return accessClaims{}, caller.ReasonCredentialExpired
	}
	return known.claims, caller.ReasonOK
}

// open verifies everything but the token's end (RFC 7515 §5.2, RFC 8725). It
// reads tokens as sign writes them and nothing more. All tokens of a key have
// the same header, so the first segment is looked up as it stands: it binds the
// algorithm to the key, and no header of another form (alg none, crit, a key
// that the token brings along) is even parsed. Nothing of the claims is read
// before the signature is known to be good.
func (k *signingKeys) open(set *keySet, token string, now time.Time) (verifiedToken, bool) {
	signed, last, ok := cutLast(token)
	if !ok {
		return verifiedToken{}, false
	}
	first, middle, ok := strings.Cut(signed, ".")
	if !ok {
		return verifiedToken{}, false
	}
	key := set.key(first, now)
	if key == nil {
		return verifiedToken{}, false
	}
	signature, ok := decodeSegment(last)
	if !ok || !verifyText(key.public, []byte(signed), signature) {
		return verifiedToken{}, false
	}
	body, ok := decodeMembers(middle)
	if !ok {
		return verifiedToken{}, false
	}
	claims, ok := k.claimsOf(body, now)
	return verifiedToken{header: key.header, claims: claims}, ok
}

// claimsOf checks that every claim is there, of its type and right, but for
// the token's end.
func (k *signingKeys) claimsOf(body members, now time.Time) (accessClaims, bool) {
	r := claimReader{body: body}
	claims := accessClaims{
		Subject: r.text("sub"), ID: r.text("jti"), ClientID: r.text("client_id"), Audience: r.text("aud"),
		IssuedAt: r.seconds("iat"), ExpiresAt: r.seconds("exp"),
	}
	r.holder(&claims)
	r.signIn(&claims)
	ours := r.text("iss") == k.issuer
	latest := now.Add(maxSkew)
	if !ours || !claims.ExpiresAt.After(claims.IssuedAt) || claims.IssuedAt.After(latest) {
		return accessClaims{}, false
	}
	if _, present := body["nbf"]; present && r.seconds("nbf").After(latest) { // we write none
		return accessClaims{}, false
	}
	if raw, present := body["password_change"]; present {
		claims.PasswordChange = string(raw) == "true"
		r.bad = r.bad || !claims.PasswordChange && string(raw) != "false"
	}
	return claims, !r.bad
}

// claimReader reads claims and notes whether one was missing, empty or of
// another type.
type claimReader struct {
	body members
	bad  bool
}

func (r *claimReader) text(name string) string {
	text, ok := textOf(r.body[name])
	r.bad = r.bad || !ok || text == ""
	return text
}

// holder reads what a token ends with: a session, or the API key it was issued
// to, which alone can be narrowed. Never both.
func (r *claimReader) holder(claims *accessClaims) {
	_, scoped := r.body["scope"]
	if _, ofKey := r.body["api_key_id"]; !ofKey {
		claims.SessionID = r.text("sid")
		r.bad = r.bad || scoped
		return
	}
	claims.APIKeyID = r.text("api_key_id")
	if scoped {
		claims.Scope = r.text("scope")
	}
	_, ofSession := r.body["sid"]
	r.bad = r.bad || ofSession
}

// signIn reads how and when the user signed in, which only sessions have.
// Tokens of earlier versions do not say.
func (r *claimReader) signIn(claims *accessClaims) {
	raw, how := r.body["amr"]
	_, when := r.body["auth_time"]
	r.bad = r.bad || (how || when) && claims.SessionID == ""
	if how {
		err := json.Unmarshal(raw, &claims.AMR)
		r.bad = r.bad || err != nil || len(claims.AMR) == 0 || slices.Contains(claims.AMR, "")
	}
	if when {
		claims.AuthTime = r.seconds("auth_time")
	}
}

func (r *claimReader) seconds(name string) time.Time {
	t, ok := secondsOf(r.body[name])
	r.bad = r.bad || !ok
	return t
}

// cutLast cuts at the last dot.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// decodeSegment decodes base64url without padding, and only the one spelling
// that the bytes have: no line breaks, no unused bits set.
func decodeSegment(segment string) ([]byte, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	return raw, err == nil && base64.RawURLEncoding.EncodeToString(raw) == segment
}

// members is a JSON object.
type members map[string]json.RawMessage

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
	object := make(members, 12)
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

// textOf is the JSON string in raw.
func textOf(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var text string
	err := json.Unmarshal(raw, &text)
	return text, err == nil
}

// secondsOf is the time of a NumericDate in whole seconds (RFC 7519 §2) up to
// the year 9999.
func secondsOf(raw json.RawMessage) (time.Time, bool) {
	seconds, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || seconds <= 0 || seconds > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0).UTC(), true
}
