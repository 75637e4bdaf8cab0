package tollgate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
)

// Verifier verifies access tokens in this process, with no network when warm:
// it keeps Tollgate's public keys and follows its feed of revocations. It is
// safe for concurrent use. Make one, keep it, and Close it.
type Verifier struct {
	client           *Client
	issuer, audience string
	ttl              time.Duration
	failClosed       bool

	keys   *keyring
	feed   *feed
	recent *recent

	ctx  context.Context
	stop context.CancelFunc
	ends sync.WaitGroup
}

type verifierConfig struct {
	bound, stale, ttl time.Duration
	closed            bool
	err               error
}

// VerifierOption changes how a Verifier works.
type VerifierOption func(*verifierConfig)

// WithFeedBound says how long ago Tollgate may have last told what is revoked;
// 3 s unless given, and more than 1 s, because it tells every second. It is how
// long a revoked token may still pass while the connection is gone.
func WithFeedBound(d time.Duration) VerifierOption {
	return func(c *verifierConfig) {
		if c.bound = d; d <= time.Second {
			c.err = errors.New("tollgate: the feed's bound must be longer than 1s")
		}
	}
}

// WithFailClosed makes Verify fail with ErrUnavailable while the feed is older
// than its bound. Otherwise it asks Tollgate about each token.
func WithFailClosed() VerifierOption {
	return func(c *verifierConfig) { c.closed = true }
}

// WithStaleKeys says how old the public keys may get while they cannot be
// fetched; 1 h unless given. Above that nothing is verified. A signing key that
// was removed is refused as soon as the feed tells of it, whatever the key set
// says.
func WithStaleKeys(d time.Duration) VerifierOption {
	return func(c *verifierConfig) {
		if c.stale = d; d < jose.KeySetMaxAge {
			c.err = fmt.Errorf("tollgate: the bound of stale keys must be at least %s", jose.KeySetMaxAge)
		}
	}
}

// WithAccessTokenTTL tells how long Tollgate's access tokens live, which is how
// long a revocation must be remembered; 24 h unless given, the most that
// Tollgate can be set to. A shorter time saves memory. A token that is older
// has expired, whatever it says.
func WithAccessTokenTTL(d time.Duration) VerifierOption {
	return func(c *verifierConfig) {
		if c.ttl = d; d < time.Second || d > jose.MaxTokenTTL {
			c.err = fmt.Errorf("tollgate: access tokens live from 1s to %s", jose.MaxTokenTTL)
		}
	}
}

// NewVerifier returns a verifier of the access tokens of client's Tollgate,
// with the issuer that it is configured with (--issuer) and the audience of this
// service: that of the service's account, or else Tollgate's own (--audience).
// Tokens for others are refused. It begins to fetch the keys and to follow the feed at once, for
// which client needs the permission tollgate:verify; see Wait.
func NewVerifier(client *Client, issuer, audience string, opts ...VerifierOption) (*Verifier, error) {
	if issuer == "" || audience == "" {
		return nil, errors.New("tollgate: a verifier needs the issuer and the audience of the tokens")
	}
	c := verifierConfig{bound: 3 * time.Second, stale: time.Hour, ttl: jose.MaxTokenTTL}
	for _, opt := range opts {
		opt(&c)
	}
	if c.err != nil {
		return nil, c.err
	}
	ctx, stop := context.WithCancel(context.Background())
	keys := &keyring{client: client, ctx: ctx, stale: c.stale}
	keys.set.Store(&keySet{})
	v := &Verifier{
		client: client, issuer: issuer, audience: audience, ttl: c.ttl, failClosed: c.closed,
		keys: keys, feed: newFeed(client, keys, c.bound, c.ttl),
		recent: newRecent(), ctx: ctx, stop: stop,
	}
	v.ends.Go(v.keys.run)
	v.ends.Go(func() { v.feed.run(ctx) })
	return v, nil
}

// Close ends the verifier's connections. Verify fails from then on.
func (v *Verifier) Close() {
	v.stop()
	v.ends.Wait()
}

// Wait returns when the verifier has the keys and was told every revocation up
// to the change log's revision, the one that the call answered with that
// revoked something; 0 waits until it is warm. The error is that of ctx, or
// says that the verifier was closed.
func (v *Verifier) Wait(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.ctx, cancel)()
	if err := v.feed.wait(ctx, revision); err != nil {
		return v.ended(err)
	}
	if err := v.keys.wait(ctx); err != nil {
		return v.ended(err)
	}
	return nil
}

func (v *Verifier) ended(err error) error {
	if v.ctx.Err() != nil {
		return unavailable("the verifier was closed", nil)
	}
	return err
}

// Verify says whether an access token is good now and whose it is, as
// Client.Verify does. Of the Principal, Username, Service and Roles stay empty,
// for a token does not tell them: what the caller may do, Authorize decides.
//
// While the feed of revocations is lost, Verify asks Tollgate about tokens that
// are otherwise good, or fails; see WithFailClosed. About an API key it always
// asks. A bad token is an answer, not an error. The error is an *Error, and
// then nothing is known of the token.
func (v *Verifier) Verify(ctx context.Context, token string) (*Verification, error) {
	found, err := v.verify(ctx, token)
	if found == nil && err == nil {
		return v.client.Verify(ctx, token)
	}
	return found, err
}

// verify is what can be found in this process; nothing at all when only
// Tollgate can tell.
func (v *Verifier) verify(ctx context.Context, token string) (*Verification, error) {
	switch {
	case v.ctx.Err() != nil:
		return nil, v.ended(nil)
	case kindOf(token) != accessToken:
		return nil, nil
	}
	c, err := v.open(ctx, token)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return &Verification{Reason: ReasonCredentialInvalid}, nil
	case c.audience != v.audience:
		return &Verification{Reason: ReasonWrongAudience}, nil
	}
	now := v.client.now()
	if !now.Before(c.expires) {
		return &Verification{Reason: ReasonCredentialExpired}, nil
	}
	reason, revision, ok := v.feed.look(c, now)
	switch {
	case !ok && v.failClosed:
		return nil, unavailable("what is revoked was not told for too long", nil)
	case !ok:
		return nil, nil
	case reason == ReasonOK && c.passwordChange:
		reason = ReasonPasswordChangeRequired
	}
	if reason != ReasonOK {
		return &Verification{Reason: reason, Revision: revision}, nil
	}
	return &Verification{Active: true, Reason: ReasonOK, Revision: revision, Principal: &Principal{
		UserID: c.userID, SessionID: c.sessionID, APIKeyID: c.apiKeyID,
		Scopes: slices.Clone(c.scopes), ExpiresAt: c.expires,
		Audience: c.audience, Amr: slices.Clone(c.amr), AuthTime: c.authTime,
	}}, nil
}

// open returns what the token says when everything but its time is good, and
// nil when it is not. A token that was opened before costs one hash.
func (v *Verifier) open(ctx context.Context, token string) (*claims, error) {
	hash := tokenHash(sha256.Sum256([]byte(token)))
	known := v.recent.get(hash)
	if known != nil && v.keys.holds(known.key, v.client.now()) {
		return known, nil
	}
	t, ok := jose.Cut(token)
	if !ok {
		return nil, nil
	}
	header, ok := t.ReadHeader()
	if !ok {
		return nil, nil
	}
	key, err := v.keys.find(ctx, header.KeyID)
	switch {
	case err != nil || key == nil || key.Algorithm != header.Algorithm:
		return nil, err
	case known != nil && known.key == key:
		return known, nil
	case !key.Verify(t):
		return nil, nil
	}
	now := v.client.now()
	c, ok := readClaims(t, v.issuer, v.ttl, now)
	if !ok {
		return nil, nil
	}
	c.key = key
	if now.Before(c.expires) && c.audience == v.audience {
		v.recent.add(hash, &c)
	}
	return &c, nil
}

// decide lets a call pass when its credential is good. What cannot be told here
// Tollgate is asked about. A bad credential is taken there too, to be counted
// and recorded; none at all is not, for nothing was tried.
func (v *Verifier) decide(ctx context.Context, q AuthorizeRequest) (*Decision, error) {
	q.Authenticated = true
	switch kind := kindOf(q.Credential); {
	case q.Credential == "":
		return &Decision{Reason: ReasonCredentialMissing}, nil
	case kind == notOne:
		return v.client.report(ctx, q, ReasonCredentialInvalid), nil
	}
	found, err := v.verify(ctx, q.Credential)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return v.client.Authorize(ctx, q)
	case found.good():
		return &Decision{Allowed: true, Reason: ReasonOK, Principal: found.Principal, Revision: found.Revision}, nil
	case found.Reason == ReasonPasswordChangeRequired:
		return &Decision{Reason: found.Reason}, nil
	}
	return v.client.report(ctx, q, found.Reason), nil
}

// revoked says whether a credential that was good is so no more, as far as the
// feed tells: ReasonOK when it is, or when that is not known here.
func (v *Verifier) revoked(ctx context.Context, credential string, who *Principal) Reason {
	if kindOf(credential) == accessToken {
		if found, err := v.verify(ctx, credential); err == nil && found != nil {
			return found.Reason
		}
		return ReasonOK
	}
	reason, _, ok := v.feed.look(&claims{userID: who.UserID, apiKeyID: who.APIKeyID}, v.client.now())
	if !ok {
		return ReasonOK
	}
	return reason
}

// Authenticate is middleware that lets a request pass when its credential is
// good, whatever its caller may do: next decides that, or Client.Require
// instead. FromContext finds the caller, as far as Verify knows them. What
// does not pass is answered as Client.Require does.
//
// A bad credential is refused here and taken to Tollgate as well, which records
// it and counts it against limits of the caller's address for the permission
// "authenticated": some at once and then one a second from each address, so
// that a flood of them does not reach Tollgate. Whoever is over a limit is
// answered 429.
func (v *Verifier) Authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := v.decide(r.Context(), v.client.question("", r.URL.Path, r.RemoteAddr, r.Header))
		switch {
		case err != nil:
			refuse(w, v.client.undecided(r.Context(), err))
		case !d.Allowed:
			refuse(w, refusal(d, ""))
		default:
			writeLimits(w.Header(), d.Limits)
			next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), d.Principal)))
		}
	})
}
