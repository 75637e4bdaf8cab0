// Package caller holds who is calling and from where, as the guard found out,
// and carries it through a request's context.
package caller

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/tollgatehq/tollgate/internal/subnet"
)

// Kind tells people from programs.
type Kind string

// The kinds of users, as stored.
const (
	Person  Kind = "person"
	Service Kind = "service"
)

// Principal is who a credential stands for.
type Principal struct {
	UserID    string
	Username  string
	Kind      Kind
	Roles     []string  // names of the roles in force, sorted
	SessionID string    // set for an access token
	APIKeyID  string    // set for an API key
	TokenID   string    // of a client's access token, which can be revoked by itself
	Scopes    []string  // patterns that an API key is narrowed to; empty: no narrowing
	ExpiresAt time.Time // zero: never
	Audience  string    // of an access token: the service that it is for
	AMR       []string  // how the person signed in (RFC 8176); empty: not by a sign-in, or unknown
	AuthTime  time.Time // when; zero: not by a sign-in, or unknown

	// Accepts is, for a service account, the audience of the access tokens that
	// it accepts; empty: the server's own.
	Accepts string

	// KeyExpiresAt is when the API key ends, the one behind a client's access
	// token, too: what it gives ends by then. Zero: never, or no key.
	KeyExpiresAt time.Time

	// GoodUntil is when the first of the credential, the key behind it and the roles
	// ends; zero: none does.
	GoodUntil time.Time

	// Attributes are what conditions read of the user; shared: do not change them.
	Attributes map[string]any

	// PasswordChangeRequired leaves the user nothing but SetPassword.
	PasswordChangeRequired bool
}

// The authentication methods of access tokens (RFC 8176 §2).
const (
	AMRPassword    = "pwd"
	AMROneTime     = "otp" // a code of an authenticator, or a recovery code
	AMRMultiFactor = "mfa"
)

// SecondFactor says whether the person signed in with one.
func (p *Principal) SecondFactor() bool { return slices.Contains(p.AMR, AMRMultiFactor) }

// Caller is one call's origin.
type Caller struct {
	Principal *Principal // nil: not authenticated, or the system
	System    bool       // the command line or Tollgate itself, which may do everything
	IP        netip.Addr // the zero Addr when unknown
	UserAgent string     // at most 512 bytes
	RequestID string

	// TrustedPeer: the connection is that of a trusted proxy.
	TrustedPeer bool
}

type key struct{}

// With returns a context that carries c.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, key{}, c)
}

// From returns the call's origin; the zero Caller, which may do nothing, when
// the context carries none.
func From(ctx context.Context) Caller {
	c, _ := ctx.Value(key{}).(Caller)
	return c
}

// System is the context of work that no request asked for: the command line,
// the first start, housekeeping.
func System(ctx context.Context) context.Context {
	return With(ctx, Caller{System: true})
}

// Accepts is the audience of the access tokens that the caller accepts from
// others, empty for the server's own.
func (c Caller) Accepts() string {
	if c.Principal == nil {
		return ""
	}
	return c.Principal.Accepts
}

// UserID is the principal's user id, empty without one.
func (c Caller) UserID() string {
	if c.Principal == nil {
		return ""
	}
	return c.Principal.UserID
}

// Once is an idempotency key together with who asks, because the keys of two
// askers have nothing to do with each other. Empty for an empty key.
func (c Caller) Once(key string) string {
	if key == "" {
		return ""
	}
	return c.UserID() + "\n" + key
}

// IPString is the address as text, empty when unknown.
func (c Caller) IPString() string {
	if !c.IP.IsValid() {
		return ""
	}
	return c.IP.String()
}

// Network is what a client at a valid address is counted under: IPv4 by itself,
// also when it is written as IPv6 (::ffff:192.0.2.1); IPv6 by its network of so
// many bits. Zones do not count.
func Network(ip netip.Addr, bits int) string {
	network := subnet.Of(ip, bits)
	if network.Addr().Is4() {
		return network.Addr().String()
	}
	return network.String()
}
