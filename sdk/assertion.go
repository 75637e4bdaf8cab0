package tollgate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/internal/jose"
)

// AssertionHeader is the header of the assertion that a proxy adds to each request
// that Tollgate allowed, or Tollgate's own gateway does.
const AssertionHeader = "Tollgate-Assertion"

const maxAssertedRoles = 1000

// AssertionConfig says which assertions an [AssertionVerifier] accepts.
type AssertionConfig struct {
	// Issuer is the server's --issuer.
	Issuer string
	// Audience is what the proxy in front of this service asks for (?audience=), or
	// the server's own (--audience) when it asks for none. Assertions for others are
	// refused: give each service one, so that no service can use those that it was
	// sent at another.
	Audience string
	// StaleKeys is how old the public keys may get while they cannot be fetched: 1 h
	// by default, at least 5 min. No assertion is verified after that.
	StaleKeys time.Duration
}

// check fills in the defaults.
func (c *AssertionConfig) check() error {
	c.StaleKeys = cmp.Or(c.StaleKeys, time.Hour)
	switch {
	case c.Issuer == "" || c.Audience == "":
		return errors.New("tollgate: an assertion verifier needs the issuer and the audience of the assertions")
	case c.StaleKeys < jose.KeySetMaxAge:
		return fmt.Errorf("tollgate: StaleKeys must be at least %s", jose.KeySetMaxAge)
	}
	return nil
}

// Assertion is what Tollgate said about one call when it allowed it. It is at most
// a minute old, give or take how far the clocks are apart (2 min are taken).
type Assertion struct {
	// Principal is who calls; nil on a public route, where nobody was asked.
	// Audience, Amr and AuthTime stay empty, because an assertion does not hold
	// them. ExpiresAt is the assertion's own end.
	Principal *Principal
	// RolesOmitted: the user has so many roles that they would not fit into a
	// header, so Principal.Roles is empty. Ask [Client.Authorize] instead.
	RolesOmitted bool
	// Permission is what the proxy asked for. An assertion says nothing about any
	// other permission, and without one only who calls: any good credential was
	// enough, or the route is public.
	Permission string
	Resource   string // what the call is about: "orders/42"; may be empty
	Route      string // the name of the route that the call matched; empty: none was looked for
	// RequestID finds the call in Tollgate's logs. Callers may choose it, so it says
	// nothing about whether an assertion was seen before.
	RequestID string
	IssuedAt  time.Time
	ExpiresAt time.Time
}

type assertionKey struct{}

// AssertionFromContext returns the assertion in a handler that an
// [AssertionVerifier] protects; nil elsewhere.
func AssertionFromContext(ctx context.Context) *Assertion {
	a, _ := ctx.Value(assertionKey{}).(*Assertion)
	return a
}

// AssertionVerifier verifies in this process the assertions of a Tollgate that
// decides at a proxy in front, without the network when warm: it keeps Tollgate's
// public keys. Make one with [NewAssertionVerifier], keep it, and Close it. It is
// safe for concurrent use.
//
// It does not hear of revocations: what the proxy asked Tollgate a moment ago
// counts until the assertion ends. A signing key that was removed because it
// leaked is accepted until the keys are fetched again, every 5 minutes, and while
// they cannot be fetched for StaleKeys.
type AssertionVerifier struct {
	client *Client
	config AssertionConfig
	keys   *keyring

	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

// NewAssertionVerifier returns an [AssertionVerifier] for client's Tollgate, and
// fetches its keys from now on. They are public: client needs no credential.
func NewAssertionVerifier(client *Client, config AssertionConfig) (*AssertionVerifier, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	v := &AssertionVerifier{client: client, config: config, keys: newKeyring(ctx, client, config.StaleKeys), ctx: ctx, stop: stop}
	v.running.Go(v.keys.run)
	return v, nil
}

// Close ends the fetching of keys. [AssertionVerifier.Verify] fails from then on.
func (v *AssertionVerifier) Close() {
	v.stop()
	v.running.Wait()
}

// Wait returns when the verifier has the keys. The error is that of ctx, or an
// [*Error] when the verifier was closed.
func (v *AssertionVerifier) Wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.ctx, cancel)()
	err := v.keys.wait(ctx)
	if err != nil && v.ctx.Err() != nil {
		return verifierClosed()
	}
	return err
}

// Verify returns what an assertion says when it is good now: signed by Tollgate,
// for this service, and neither expired nor of the future. Compare its Permission
// with what the handler needs, as [AssertionVerifier.RequireAssertion] does. The
// error is a [*DeniedError] for a bad assertion, and an [*Error] when nothing is
// known about it; neither may pass.
func (v *AssertionVerifier) Verify(ctx context.Context, assertion string) (*Assertion, error) {
	if v.ctx.Err() != nil {
		return nil, verifierClosed()
	}
	if assertion == "" {
		return nil, &DeniedError{Reason: ReasonCredentialMissing}
	}
	t, ok := jose.Cut(assertion)
	if !ok {
		return nil, &DeniedError{Reason: ReasonCredentialInvalid}
	}
	key, err := v.keys.keyOf(ctx, t, jose.TypeAssertion)
	if err != nil {
		return nil, err
	}
	if key == nil || !key.Verify(t) {
		return nil, &DeniedError{Reason: ReasonCredentialInvalid}
	}
	now := v.client.now()
	a, audience, ok := readAssertion(t, v.config.Issuer, now)
	switch {
	case !ok:
		return nil, &DeniedError{Reason: ReasonCredentialInvalid}
	case audience != v.config.Audience:
		return nil, &DeniedError{Reason: ReasonWrongAudience}
	case !now.Before(a.ExpiresAt):
		return nil, &DeniedError{Reason: ReasonCredentialExpired}
	}
	return a, nil
}

// readAssertion returns the claims of an assertion whose signature is good. It
// checks all but the audience, which it returns, and the end, which is at most
// jose.AssertionTTL after the beginning.
func readAssertion(t jose.Token, issuer string, now time.Time) (a *Assertion, audience string, ok bool) {
	r, ok := t.ReadClaims()
	if !ok {
		return nil, "", false
	}
	optional := func(name string) string {
		if !r.Has(name) {
			return ""
		}
		return r.Text(name)
	}
	a = &Assertion{
		RolesOmitted: r.Flag("roles_omitted"), Permission: optional("permission"), Resource: optional("resource"),
		Route: optional("route"), RequestID: r.Text("jti"),
	}
	a.IssuedAt, a.ExpiresAt = r.Period(now)
	p := &Principal{
		UserID: r.Text("sub"), Username: optional("username"), SessionID: optional("sid"), APIKeyID: optional("api_key_id"),
		ExpiresAt: a.ExpiresAt,
	}
	if r.Has("scope") {
		p.Scopes = strings.Fields(r.Text("scope"))
	}
	if !a.RolesOmitted {
		p.Roles = r.Texts("roles", maxAssertedRoles)
	}
	good := r.Text("iss") == issuer && r.Has("roles") != a.RolesOmitted && a.ExpiresAt.Sub(a.IssuedAt) <= jose.AssertionTTL &&
		r.Has("scope") == (len(p.Scopes) > 0)
	switch r.Text("kind") {
	case "person", "service":
		p.Service = r.Text("kind") == "service"
		good = good && p.UserID != anonymous
		a.Principal = p
	case anonymous: // names nobody and nothing that somebody was asked for
		good = good && p.UserID == anonymous && p.Username+p.SessionID+p.APIKeyID+a.Permission == "" && len(p.Roles)+len(p.Scopes) == 0
	default:
		good = false
	}
	audience = r.Text("aud")
	return a, audience, good && r.OK()
}

// anonymous is the kind and the subject of an assertion about a public route.
const anonymous = "anonymous"

// RequireAssertion returns middleware for a service behind a proxy that asks
// Tollgate, or behind Tollgate's gateway. It passes a request on when its one
// [AssertionHeader] is good and Tollgate was asked for this permission, this one
// by name: the assertion of a call that may read profiles opens no handler that
// needs orders:read. The handler finds the caller with [FromContext] and the rest
// with [AssertionFromContext]. It must not go by any other header about the
// caller, because those are not signed.
//
// Nothing is asked of Tollgate for a request: it was counted, decided and recorded
// when the proxy asked. Other requests are answered with 401 for no or a bad
// assertion, 403 for one of another permission or of a public route, and 503 when
// there are no public keys to verify it with, in the form of [Client.Require].
//
// A handler of a public route has no need for an assertion, and may look at one
// with [AssertionVerifier.Verify]. RequireAssertion panics when permission is
// empty; see [AssertionVerifier.Authenticate].
func (v *AssertionVerifier) RequireAssertion(permission string) func(http.Handler) http.Handler {
	if permission == "" {
		panic("tollgate: RequireAssertion needs a permission")
	}
	message := fmt.Sprintf("this needs the permission %s, and the proxy in front of this service asked for another; correct its routes", permission)
	return func(next http.Handler) http.Handler {
		return v.enforce(next, message, func(a *Assertion) bool { return a.Permission == permission })
	}
}

// Authenticate is middleware that passes a request on when its one
// [AssertionHeader] is good and says who calls, whatever permission the proxy
// asked for, and also when it asked for none (?authenticated=true): next decides
// what this caller may do. It answers as [AssertionVerifier.RequireAssertion].
func (v *AssertionVerifier) Authenticate(next http.Handler) http.Handler {
	const message = "this is for callers who are known, and the proxy in front of this service let anybody pass; correct its routes"
	return v.enforce(next, message, func(a *Assertion) bool { return a.Principal != nil })
}

// enforce passes a request on when its assertion is good and passes; message says
// why another good one does not.
func (v *AssertionVerifier) enforce(next http.Handler, message string, passes func(*Assertion) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := v.Verify(r.Context(), assertionOf(r.Header))
		switch {
		case err != nil:
			refuse(w, v.refusal(r.Context(), err))
		case !passes(a):
			refuse(w, newError(connect.CodePermissionDenied, string(ReasonPermissionMissing), message, 0))
		default:
			ctx := context.WithValue(NewContext(r.Context(), a.Principal), assertionKey{}, a)
			next.ServeHTTP(w, r.WithContext(ctx))
		}
	})
}

// assertionOf returns the assertion of a request; several are a bad one.
func assertionOf(header http.Header) string {
	switch values := header.Values(AssertionHeader); len(values) {
	case 0:
		return ""
	case 1:
		return cmp.Or(values[0], malformed)
	default:
		return malformed
	}
}

// refusal returns the answer to a request whose assertion did not pass. The
// caller cannot mend it, who runs the proxy can.
func (v *AssertionVerifier) refusal(ctx context.Context, err error) *connect.Error {
	denied, ok := errors.AsType[*DeniedError](err)
	if !ok {
		return v.client.unavailableError(ctx, err)
	}
	switch denied.Reason {
	case ReasonCredentialMissing:
		return challenge(denied.Reason, "Bearer", "call through the proxy in front of this service; it must add "+AssertionHeader)
	case ReasonWrongAudience:
		return challenge(denied.Reason, badToken, AssertionHeader+" is for another service; configure the proxy with this one's audience")
	case ReasonCredentialExpired:
		return challenge(denied.Reason, badToken, AssertionHeader+" has expired; call again, and if it stays so, set the clocks")
	}
	return challenge(denied.Reason, badToken, AssertionHeader+" is not one of Tollgate's; call through the proxy in front of this service")
}
