package sdktest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// TokenOption changes the claims of an access token.
type TokenOption func(claims map[string]any)

// InSession gives the token this session rather than one of its own, so that
// Revoke can name it.
func InSession(id string) TokenOption { return Claim("sid", id) }

// FromAPIKey makes it a token that an API key was traded for: it has no session.
func FromAPIKey(id string) TokenOption {
	return func(claims map[string]any) {
		delete(claims, "sid")
		claims["api_key_id"] = id
	}
}

// ExpiresAt gives the token another end; one in the past makes it expired.
func ExpiresAt(end time.Time) TokenOption {
	return func(claims map[string]any) {
		claims["exp"] = end.Unix()
		if issued, ok := claims["iat"].(int64); ok && issued >= end.Unix() {
			claims["iat"] = end.Add(-time.Minute).Unix()
		}
	}
}

// Claim sets a claim, and removes it when the value is nil: for tests of what
// must be refused.
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
	header := map[string]any{"alg": "EdDSA", "kid": thumbprint(s.signer.Public().(ed25519.PublicKey)), "typ": "at+jwt"}
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
	signed := segment(header) + "." + segment(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(s.signer, []byte(signed)))
}

// RotateKey makes a new signing key. The former ones stay in the key set, and
// their tokens good.
func (s *Server) RotateKey() {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signer, s.keys = private, append(s.keys, public)
}

// RemoveKey stops the signing key of now, as one that leaked: its tokens are
// refused, it leaves the key set, and a new key signs. It returns the revision
// for Verifier.Wait.
func (s *Server) RemoveKey() int64 {
	s.mu.Lock()
	leaked := s.signer.Public().(ed25519.PublicKey)
	s.mu.Unlock()
	s.RotateKey()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = slices.DeleteFunc(s.keys, func(key ed25519.PublicKey) bool { return key.Equal(leaked) })
	s.removed = append(s.removed, thumbprint(leaked))
	return s.tell(&tollgatev1.WatchRevocationsResponse{SigningKeyIds: []string{thumbprint(leaked)}})
}

// opened is what a token that the server signed says.
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

// open checks a token's signature and issuer. The lock is held.
func (s *Server) open(text string) (opened, bool) {
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 {
		return opened{}, false
	}
	_, body, _ := strings.Cut(text[:dot], ".")
	signature, err := base64.RawURLEncoding.Strict().DecodeString(text[dot+1:])
	if err != nil {
		return opened{}, false
	}
	for _, key := range s.keys {
		if !ed25519.Verify(key, []byte(text[:dot]), signature) {
			continue
		}
		raw, err := base64.RawURLEncoding.DecodeString(body)
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
	set := []map[string]string{}
	for _, key := range s.keys {
		set = append(set, map[string]string{
			"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
			"x": base64.RawURLEncoding.EncodeToString(key), "kid": thumbprint(key),
		})
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": set}) // it fails when the caller hung up
}

func segment(object map[string]any) string {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// thumbprint is the key's id (RFC 7638, RFC 8037 §2).
func thumbprint(key ed25519.PublicKey) string {
	x := base64.RawURLEncoding.EncodeToString(key)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
