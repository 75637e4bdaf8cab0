package token

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// TestTokenHolder: a token ends with a session or with a key, and only a key's
// is narrowed.
func TestTokenHolder(t *testing.T) {
	key, fake := testKey(1), clock.NewFake(issued)
	k := testSigner(t, fake)
	header := `{"alg":"EdDSA","kid":"` + key.id + `","typ":"at+jwt"}`
	for _, c := range []struct {
		claims map[string]any
		want   caller.Reason
	}{
		{map[string]any{"sid": "s"}, caller.ReasonOK},
		{map[string]any{"api_key_id": "k"}, caller.ReasonOK},
		{map[string]any{"api_key_id": "k", "scope": "a:b"}, caller.ReasonOK},
		{map[string]any{}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": "k", "sid": "s"}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": "", "sid": "s"}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": nil, "sid": "s"}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": ""}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": 1}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": "k", "scope": ""}, caller.ReasonCredentialInvalid},
		{map[string]any{"api_key_id": "k", "scope": []string{"a:b"}}, caller.ReasonCredentialInvalid},
		{map[string]any{"sid": "s", "scope": "a:b"}, caller.ReasonCredentialInvalid},
	} {
		claims := map[string]any{
			"iss": "https://tollgate.test", "sub": "user-1", "aud": "tollgate", "exp": issued.Unix() + 900, "iat": issued.Unix(),
			"jti": "token-1", "client_id": "tollgate",
		}
		maps.Copy(claims, c.claims)
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := k.Verify(forge(key, header, string(text)), issued); got != c.want {
			t.Errorf("%v: %s, want %s", c.claims, got, c.want)
		}
	}
}
