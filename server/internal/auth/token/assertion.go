package token

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Anonymous is the subject and the kind of an assertion about a public route.
const Anonymous = "anonymous"

// maxClaimsWithRoles is the size in bytes above which an assertion's claims leave
// the roles out. With an RSA key of 2048 bits the assertion has 4 KiB then; many
// servers take no longer header, or 8 KiB for all of them.
const maxClaimsWithRoles = 2700

// Assertion is what Tollgate tells a service behind a proxy about one call that
// it allowed: who calls, and what was asked. Kind is "person", "service" or
// [Anonymous]; an anonymous assertion has [Anonymous] for its Subject and
// neither Username nor Permission.
type Assertion struct {
	Subject  string // the user's id
	Username string
	Kind     string
	Roles    []string // in force at the decision
	Scopes   []string // what the credential is narrowed to; empty: not narrowed

	Permission string // that was asked for; only a service that needs the same may go by it. Empty: any good credential was enough
	Resource   string
	Route      string // the route's name; empty: the proxy's configuration said what to ask

	Audience  string // the service that it is for; empty: the server's own, as for access tokens
	SessionID string
	APIKeyID  string
	RequestID string // "jti": finds the call in the logs
	IssuedAt  time.Time
}

// assertionPayload is an assertion's claims as SignAssertion writes them, with the
// names of RFC 7519 §4.1 and of access tokens.
type assertionPayload struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	ExpiresAt int64  `json:"exp"`
	IssuedAt  int64  `json:"iat"`
	ID        string `json:"jti"`

	Username     string   `json:"username,omitempty"`
	Kind         string   `json:"kind"`
	Roles        []string `json:"roles,omitzero"`
	RolesOmitted bool     `json:"roles_omitted,omitempty"`
	Scope        string   `json:"scope,omitempty"`
	Permission   string   `json:"permission,omitempty"`
	Resource     string   `json:"resource,omitempty"`
	Route        string   `json:"route,omitempty"`
	SessionID    string   `json:"sid,omitempty"`
	APIKeyID     string   `json:"api_key_id,omitempty"`
}

// SignAssertion makes an assertion that lives for jose.AssertionTTL: a JWT (RFC
// 7519) of the type jose.TypeAssertion, signed with the key in force, which the
// key set has. No access token passes for one, nor one for an access token.
//
// It has "roles", also an empty list, unless its claims would be longer than 2700
// bytes: then "roles_omitted" is true in their place, so that nobody takes a user
// of many roles for one of none. Scopes are never left out, because the
// credential would look wider than it is: when what remains is longer than
// jose.MaxTokenSize the error is a [fault.Error] of the kind Denied. Every other
// error is of the kinds Unavailable or Internal. No call may pass without its
// assertion.
func (k *Keys) SignAssertion(a Assertion) (string, error) {
	if err := a.check(); err != nil {
		return "", fmt.Errorf("sign assertion: %w", err)
	}
	body, err := a.claims(k.Issuer, k.Audience)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	token, err := k.sign(body, func(key *signingKey) string { return key.assertionHeader })
	if err != nil {
		return "", err
	}
	if len(token) > jose.MaxTokenSize {
		return "", fault.New(fault.Denied, "TOO_LARGE", "the scopes are too long for the header that tells the service about the call; "+
			"call with an API key that has fewer or shorter ones")
	}
	return token, nil
}

// check reports what is missing, or does not go together.
func (a *Assertion) check() error {
	if a.Subject == "" || a.RequestID == "" || a.IssuedAt.IsZero() {
		return errors.New("a claim is missing")
	}
	switch a.Kind {
	case string(caller.Person), string(caller.Service):
		if a.Subject == Anonymous {
			return errors.New("a user's assertion needs the user's id")
		}
	case Anonymous:
		if a.Subject != Anonymous || a.Username+a.Permission+a.SessionID+a.APIKeyID != "" || len(a.Roles)+len(a.Scopes) > 0 {
			return errors.New("an anonymous assertion names no user, no credential and no permission")
		}
	default:
		return fmt.Errorf("the kind is %q", a.Kind)
	}
	return nil
}

// claims encodes the payload, with the roles or a word that they are left out.
func (a *Assertion) claims(issuer, audience string) ([]byte, error) {
	text := assertionPayload{
		Issuer: issuer, Subject: a.Subject, Audience: cmp.Or(a.Audience, audience),
		IssuedAt: a.IssuedAt.Unix(), ExpiresAt: a.IssuedAt.Add(jose.AssertionTTL).Unix(), ID: a.RequestID,
		Username: a.Username, Kind: a.Kind, Roles: a.Roles, Scope: strings.Join(a.Scopes, " "),
		Permission: a.Permission, Resource: a.Resource, Route: a.Route, SessionID: a.SessionID, APIKeyID: a.APIKeyID,
	}
	if text.Roles == nil {
		text.Roles = []string{}
	}
	body, err := json.Marshal(text)
	if err == nil && len(body) > maxClaimsWithRoles && len(a.Roles) > 0 {
		text.Roles, text.RolesOmitted = nil, true
		return json.Marshal(text)
	}
	return body, err
}
