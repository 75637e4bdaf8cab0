package token

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// verifiedTokens is how many verified tokens are remembered.
const verifiedTokens = 50_000

// Claims is what an access token says. All of it is required, to the
// second; the issuer is the server's own.
type Claims struct {
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
	claims Claims
}

// payload is a token's claims as sign writes them (RFC 9068 §2.2).
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

// Sign makes an access token (RFC 9068) with the key in force.
func (k *Keys) Sign(claims Claims) (string, error) {
	if claims.Subject == "" || (claims.SessionID == "") == (claims.APIKeyID == "") || claims.ID == "" || claims.ClientID == "" ||
		claims.IssuedAt.IsZero() || claims.ExpiresAt.Unix() <= claims.IssuedAt.Unix() {
		return "", errors.New("sign access token: a claim is missing")
	}
	text := payload{
		Issuer: k.Issuer, Subject: claims.Subject, Audience: cmp.Or(claims.Audience, k.Audience),
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
	token, err := k.sign(body, func(key *signingKey) string { return key.header })
	if err != nil {
		return "", err
	}
	if len(token) > jose.MaxTokenSize {
		return "", fmt.Errorf("sign access token: it would have %d bytes, more than %d", len(token), jose.MaxTokenSize)
	}
	return token, nil
}

// SignMetadata makes a JWT of claims, a JSON object, that say what this server is, as
// of RFC 8414 §2.1. It has the type jose.TypeMetadata, so that nobody who asks for an
// access token or an assertion takes it for one.
func (k *Keys) SignMetadata(claims []byte) (string, error) {
	return k.sign(claims, func(key *signingKey) string { return jose.EncodeHeader(key.algorithm, key.id, jose.TypeMetadata) })
}

// sign makes a token of claims with the key in force and the header that it has for
// this type of tokens.
func (k *Keys) sign(claims []byte, header func(*signingKey) string) (string, error) {
	key := k.set.Load().signer(k.Clock.Now())
	if key == nil {
		return "", errNoSigner()
	}
	token, err := jose.Encode(header(key), claims, key.private)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// Verify says whether a token is one of ours and good at now: OK with its
// claims, Expired when nothing but its time is wrong, otherwise Invalid. It
// does not know about revocation, nor whether the token was meant for the
// service that it was shown to: compare the audience.
//
// A token that was verified before costs one hash; its end and whether its key
// still verifies are checked each time.
func (k *Keys) Verify(token string, now time.Time) (Claims, caller.Reason) {
	if len(token) > jose.MaxTokenSize {
		return Claims{}, caller.ReasonCredentialInvalid
	}
	set, hash := k.set.Load(), tokenHash(sha256.Sum256([]byte(token)))
	known, ok := k.verified.GetIfPresent(hash)
	switch {
	case !ok:
		known, ok = k.open(set, token, now)
		if !ok {
			return Claims{}, caller.ReasonCredentialInvalid
		}
		if now.Before(known.claims.ExpiresAt) {
			k.verified.Set(hash, known)
		}
	case set.key(known.header, now) == nil:
		k.verified.Invalidate(hash)
		return Claims{}, caller.ReasonCredentialInvalid
	}
	if !now.Before(known.claims.ExpiresAt) {
		return Claims{}, caller.ReasonCredentialExpired
	}
	return known.claims, caller.ReasonOK
}

// open verifies everything but the token's end (RFC 7515 §5.2, RFC 8725). It
// reads tokens as sign writes them and nothing more. All tokens of a key have
// the same header, so the first segment is looked up as it stands: it binds the
// algorithm to the key, and no header of another form (alg none, crit, a key
// that the token brings along) is even parsed. Nothing of the claims is read
// before the signature is known to be good.
func (k *Keys) open(set *keySet, token string, now time.Time) (verifiedToken, bool) {
	t, ok := jose.Cut(token)
	if !ok {
		return verifiedToken{}, false
	}
	key := set.key(t.Header, now)
	if key == nil || !jose.Verify(key.public, t.Signed, t.Signature) {
		return verifiedToken{}, false
	}
	r, ok := t.ReadClaims()
	if !ok {
		return verifiedToken{}, false
	}
	claims, ok := k.claimsOf(&r, now)
	return verifiedToken{header: key.header, claims: claims}, ok
}

// claimsOf checks that every claim is there, of its type and right, but for
// the token's end.
func (k *Keys) claimsOf(r *jose.Claims, now time.Time) (Claims, bool) {
	claims := Claims{
		Subject: r.Text("sub"), ID: r.Text("jti"), ClientID: r.Text("client_id"), Audience: r.Text("aud"),
		PasswordChange: r.Flag("password_change"),
	}
	claims.IssuedAt, claims.ExpiresAt = r.Period(now)
	if r.Text("iss") != k.Issuer || !readHolder(r, &claims) || !readSignIn(r, &claims) || !r.OK() {
		return Claims{}, false
	}
	return claims, true
}

// readHolder reads what a token ends with: a session, or the API key it was
// issued to, which alone can be narrowed. Never both.
func readHolder(r *jose.Claims, claims *Claims) bool {
	if !r.Has("api_key_id") {
		claims.SessionID = r.Text("sid")
		return !r.Has("scope")
	}
	claims.APIKeyID = r.Text("api_key_id")
	if r.Has("scope") {
		claims.Scope = r.Text("scope")
	}
	return !r.Has("sid")
}

// readSignIn reads how and when the user signed in, which only sessions have.
// Tokens of earlier versions do not say.
func readSignIn(r *jose.Claims, claims *Claims) bool {
	how, when := r.Has("amr"), r.Has("auth_time")
	if how {
		claims.AMR = r.AMR()
	}
	if when {
		claims.AuthTime = r.Seconds("auth_time")
	}
	return !(how && len(claims.AMR) == 0) && !((how || when) && claims.SessionID == "")
}
