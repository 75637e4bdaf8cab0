package tollgate

import (
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
)

// claims is what an access token says that is good but for its time.
type claims struct {
	key       *jose.Key // whose signature it has
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
func readClaims(t jose.Token, issuer string, ttl time.Duration, now time.Time) (claims, bool) {
	r, ok := t.ReadClaims()
	if !ok {
		return claims{}, false
	}
	issued, expires := r.Period(now)
	c := claims{
		userID: r.Text("sub"), audience: r.Text("aud"), expires: expires,
		passwordChange: r.Flag("password_change"),
	}
	if end := issued.Add(ttl); end.Before(expires) {
		c.expires = end
	}
	r.Text("jti")
	r.Text("client_id")
	good := r.Text("iss") == issuer
	if r.Has("api_key_id") {
		c.apiKeyID = r.Text("api_key_id")
		good = good && !r.Has("sid")
	} else {
		c.sessionID = r.Text("sid")
	}
	if r.Has("scope") {
		c.scopes = strings.Fields(r.Text("scope"))
		good = good && c.apiKeyID != "" && len(c.scopes) > 0
	}
	if r.Has("amr") {
		c.amr = r.Texts("amr")
	}
	if r.Has("auth_time") {
		c.authTime = r.Seconds("auth_time")
	}
	return c, good && r.OK()
}
