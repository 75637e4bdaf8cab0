package enforce

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// The headers with the caller's identity that protected services get.
const (
	PrincipalHeader = "Tollgate-Principal" // base64url of JSON; see Principal
	AssertionHeader = "Tollgate-Assertion" // a signed JWT with the same and more
	StatusHeader    = "Tollgate-Status"    // the status of a refusal, for proxies that lose it
)

// Flavor is a set of header names that applications already know, sent besides
// Tollgate's own.
type Flavor string

// The flavors.
const (
	NoFlavor     Flavor = ""
	Remote       Flavor = "remote"         // Remote-User, Remote-Groups
	XAuthRequest Flavor = "x-auth-request" // X-Auth-Request-User, -Groups, -Preferred-Username
)

// Valid says whether there is such a flavor.
func (f Flavor) Valid() bool { return f == NoFlavor || f == Remote || f == XAuthRequest }

// Header is one header with an identity. The value is never empty.
type Header struct{ Name, Value string }

// identityPrefixes are what the names of headers begin with that say who somebody
// is, in lower case: ours, and those that applications believe.
var identityPrefixes = []string{"tollgate-", "x-tollgate-", "remote-", "x-remote-", "x-auth-request-", "x-forwarded-user", "x-forwarded-groups", "x-forwarded-email", "x-forwarded-preferred-username"}

// IsIdentity says whether a header of a client's must not reach a service: one
// that says who somebody is. Underscores are hyphens to some applications.
func IsIdentity(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	for _, prefix := range identityPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// IdentityNames are the names of every header that some flavor sends, for those
// who remove them from a client's request by name.
func IdentityNames() []string {
	return []string{
		PrincipalHeader, AssertionHeader, StatusHeader, "Remote-User", "Remote-Groups",
		"X-Auth-Request-User", "X-Auth-Request-Groups", "X-Auth-Request-Preferred-Username",
	}
}

// none stands for what there is nothing of: an empty header would leave the
// client's own in its place at some proxies.
const none = "-"

// principal is the JSON of Tollgate-Principal.
type principal struct {
	Version   int      `json:"v"`
	UserID    string   `json:"userId,omitempty"`
	Username  string   `json:"username,omitempty"`
	Kind      string   `json:"kind"` // person, service, anonymous
	Roles     []string `json:"roles"`
	Scopes    []string `json:"scopes"`
	APIKeyID  string   `json:"apiKeyId,omitempty"`
	SessionID string   `json:"sessionId,omitempty"`
}

// Anonymous is the kind, and in an assertion the subject, of who made a public
// request.
const Anonymous = "anonymous"

// Identity is every identity header of an allowed request. The error is about the
// signature: then the request must not go on.
func (s *Service) Identity(a Answer, flavor Flavor) ([]Header, error) {
	who := a.Principal
	kind := Anonymous
	if who == nil {
		who = &caller.Principal{}
	} else {
		kind = string(who.Kind)
	}
	text, err := json.Marshal(principal{
		Version: 1, UserID: who.UserID, Username: who.Username, Kind: kind,
		Roles: list(who.Roles), Scopes: list(who.Scopes), APIKeyID: who.APIKeyID, SessionID: who.SessionID,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the principal: %w", err)
	}
	claims := token.Assertion{
		Subject: who.UserID, Username: who.Username, Kind: kind, Roles: list(who.Roles), Scopes: who.Scopes,
		Permission: a.permission, Resource: a.resource, Audience: a.audience,
		SessionID: who.SessionID, APIKeyID: who.APIKeyID, RequestID: a.RequestID, IssuedAt: s.Clock.Now(),
	}
	if a.Principal == nil {
		claims.Subject = Anonymous
	}
	if a.Route != nil {
		claims.Route = a.Route.Name
	}
	assertion, err := s.Sign(claims)
	if err != nil {
		return nil, err
	}
	headers := []Header{
		{PrincipalHeader, base64.RawURLEncoding.EncodeToString(text)},
		{AssertionHeader, assertion},
	}
	orNone := func(text string) string {
		if text == "" {
			return none
		}
		return text
	}
	groups := orNone(strings.Join(who.Roles, ","))
	switch flavor {
	case Remote:
		headers = append(headers, Header{"Remote-User", orNone(who.Username)}, Header{"Remote-Groups", groups})
	case XAuthRequest:
		headers = append(headers, Header{"X-Auth-Request-User", orNone(who.UserID)}, Header{"X-Auth-Request-Groups", groups},
			Header{"X-Auth-Request-Preferred-Username", orNone(who.Username)})
	}
	return headers, nil
}

func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
