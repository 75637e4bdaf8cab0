package sdktest

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/jose"
)

// TokenOption changes the claims of an access token, or of an assertion.
type TokenOption func(claims map[string]any)

// InSession puts the token into this session, for [Server.Revoke].
func InSession(id string) TokenOption { return Claim("sid", id) }

// FromAPIKey makes it a client-credentials token of an API key: it has no session.
func FromAPIKey(id string) TokenOption {
	return func(claims map[string]any) {
		delete(claims, "sid")
		claims["api_key_id"] = id
	}
}

// ExpiresAt sets the token's end; one in the past makes it expired.
func ExpiresAt(end time.Time) TokenOption {
	return func(claims map[string]any) {
		claims["exp"] = end.Unix()
		if issued, ok := claims["iat"].(int64); ok && issued >= end.Unix() {
			claims["iat"] = end.Add(-time.Minute).Unix()
		}
	}
}

// Claim sets a claim, or removes it when the value is nil, in tests of what must
// be refused.
func Claim(name string, value any) TokenOption {
	return func(claims map[string]any) {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
}

// Token returns an access token of a user, signed with the server's key. It
// panics when there is no such user.
func (s *Server) Token(user string, opts ...TokenOption) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sign(s.mustKnow(user), s.newID("session"), opts...)
}

// Assertion returns what a proxy in front of the service under test sends as
// [tollgate.AssertionHeader] with a call of this user for which it asked for this
// permission; empty: any good credential was enough. An empty user is that of a
// public route. It is for the server's audience. Options can make it one that must be refused. It panics
// when there is no such user.
func (s *Server) Assertion(user, permission string, opts ...TokenOption) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	claims := map[string]any{
		"iss": Issuer, "aud": s.audience, "sub": "anonymous", "kind": "anonymous", "roles": []string{}, "jti": s.newID("request"),
		"iat": now.Unix(), "exp": now.Add(jose.AssertionTTL).Unix(),
	}
	if user != "" {
		u := s.mustKnow(user)
		claims["sub"], claims["username"], claims["kind"] = u.ID, u.Name, "person"
		claims["sid"] = s.newID("session")
		if permission != "" {
			claims["permission"] = permission
		}
		if u.Roles != nil {
			claims["roles"] = u.Roles
		}
		if u.Service {
			claims["kind"] = "service"
		}
	}
	return s.encode(jose.TypeAssertion, claims, opts)
}

func (s *Server) sign(u User, sessionID string, opts ...TokenOption) string {
	now := s.now()
	claims := map[string]any{
		"iss": Issuer, "aud": s.audience, "sub": u.ID, "sid": sessionID, "jti": s.newID("token"), "client_id": "tollgate",
		"iat": now.Unix(), "exp": now.Add(s.tokenTTL).Unix(),
	}
	if u.PasswordChange {
		claims["password_change"] = true
	}
	return s.encode(jose.TypeAccessToken, claims, opts)
}

// encode signs a token of this type.
func (s *Server) encode(typ string, claims map[string]any, opts []TokenOption) string {
	for _, opt := range opts {
		opt(claims)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	token, err := jose.Encode(jose.EncodeHeader(jose.EdDSA, s.keys[len(s.keys)-1].ID, typ), text, s.signer)
	if err != nil {
		panic(err) // it is an Ed25519 key
	}
	return token
}

// RotateKey makes a new signing key. The former ones stay in the key set, and
// their tokens stay good.
func (s *Server) RotateKey() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newKey()
}

func (s *Server) newKey() {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	id, err := jose.Thumbprint(public)
	if err != nil {
		panic(err)
	}
	s.signer, s.keys = private, append(s.keys, jose.Key{ID: id, Algorithm: jose.EdDSA, Public: public})
}

// RemoveKey replaces the signing key as one that leaked: its tokens are refused,
// and it leaves the key set. It returns the revision for [tollgate.Verifier.Wait].
func (s *Server) RemoveKey() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.keys) - 1
	leaked := s.keys[last].ID
	s.keys = slices.Delete(s.keys, last, last+1)
	s.newKey()
	s.removed = append(s.removed, leaked)
	return s.send(&tollgatev1.WatchRevocationsResponse{SigningKeyIds: []string{leaked}})
}

// opened holds the claims of a token.
type opened struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	UserID   string `json:"sub"`
	Session  string `json:"sid"`
	APIKey   string `json:"api_key_id"`
	ID       string `json:"jti"`
	Expires  int64  `json:"exp"`

	Amr      []string `json:"amr"`
	AuthTime int64    `json:"auth_time"`
}

// open reads a token and checks its signature and issuer. The lock is held.
func (s *Server) open(text string) (opened, bool) {
	token, ok := jose.Cut(text)
	if !ok {
		return opened{}, false
	}
	for _, key := range s.keys {
		if !key.Verify(token) {
			continue
		}
		raw, err := base64.RawURLEncoding.DecodeString(token.Payload)
		if err != nil {
			return opened{}, false
		}
		var t opened
		err = json.Unmarshal(raw, &t)
		return t, err == nil && t.Issuer == Issuer && t.Expires > 0
	}
	return opened{}, false
}

func (s *Server) serveKeys(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	set, err := jose.EncodeKeySet(s.keys)
	s.mu.Unlock()
	if err != nil {
		panic(err) // they are Ed25519 keys
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(jose.KeySetMaxAge.Seconds())))
	_, _ = w.Write(set) // it fails when the caller hung up
}
