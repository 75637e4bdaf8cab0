package tollgate

import (
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
)

// claims holds the claims of an access token that is good but for its time.
type claims struct {
	key       *jose.Key // whose signature it has
	tokenID   string
	userID    string
	sessionID string // empty for a token that an API key was traded for
	apiKeyID  string // empty for a token of a session
	scopes    []string
	audience  string
	amr       []string
	authTime  time.Time // zero: not given
	expires   time.Time

	// passwordChange: the user may do nothing but choose a new password.
	passwordChange bool
}

// readClaims returns the claims of a token whose signature is good. It checks all
// but the audience and the end, which is at most ttl after the beginning.
func readClaims(t jose.Token, issuer string, ttl time.Duration, now time.Time) (claims, bool) {
	r, ok := t.ReadClaims()
	if !ok {
		return claims{}, false
	}
	issued, expires := r.Period(now)
	c := claims{
		tokenID: r.Text("jti"), userID: r.Text("sub"), audience: r.Text("aud"), expires: expires,
		passwordChange: r.Flag("password_change"),
	}
	if end := issued.Add(ttl); end.Before(expires) {
		c.expires = end
	}
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
		c.amr = r.AMR()
	}
	if r.Has("auth_time") {
		c.authTime = r.Seconds("auth_time")
	}
	return c, good && r.OK()
}
