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

// TokenOption changes the claims of an access token.
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

func (s *Server) sign(u User, sessionID string, opts ...TokenOption) string {
	now := s.now()
	claims := map[string]any{
		"iss": Issuer, "aud": s.audience, "sub": u.ID, "sid": sessionID, "jti": s.newID("token"), "client_id": "tollgate",
		"iat": now.Unix(), "exp": now.Add(s.tokenTTL).Unix(),
	}
	if u.PasswordChange {
		claims["password_change"] = true
	}
	for _, opt := range opts {
		opt(claims)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	header := jose.EncodeHeader(jose.EdDSA, thumbprint(s.signer.Public().(ed25519.PublicKey)))
	token, err := jose.Encode(header, text, s.signer)
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
	s.signer, s.keys = private, append(s.keys, public)
}

// RemoveKey replaces the signing key as one that leaked: its tokens are refused,
// and it leaves the key set. It returns the revision for [tollgate.Verifier.Wait].
func (s *Server) RemoveKey() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	leaked := s.signer.Public().(ed25519.PublicKey)
	s.newKey()
	s.keys = slices.DeleteFunc(s.keys, func(key ed25519.PublicKey) bool { return key.Equal(leaked) })
	s.removed = append(s.removed, thumbprint(leaked))
	return s.send(&tollgatev1.WatchRevocationsResponse{SigningKeyIds: []string{thumbprint(leaked)}})
}

// opened holds the claims of a token.
type opened struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	UserID   string `json:"sub"`
	Session  string `json:"sid"`
	APIKey   string `json:"api_key_id"`
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
		if !jose.Verify(key, token.Signed, token.Signature) {
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
	var keys []jose.Key
	for _, key := range s.keys {
		keys = append(keys, jose.Key{ID: thumbprint(key), Algorithm: jose.EdDSA, Public: key})
	}
	s.mu.Unlock()
	set, err := jose.EncodeKeySet(keys)
	if err != nil {
		panic(err) // they are Ed25519 keys
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(jose.KeySetMaxAge.Seconds())))
	_, _ = w.Write(set) // it fails when the caller hung up
}

// thumbprint returns the key's id.
func thumbprint(key ed25519.PublicKey) string {
	id, err := jose.Thumbprint(key)
	if err != nil {
		panic(err) // it is an Ed25519 key
	}
	return id
}
