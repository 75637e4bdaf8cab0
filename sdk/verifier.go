package tollgate

import (
	"cmp"
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

// VerifierConfig says which access tokens a [Verifier] accepts, and how old what
// it knows may get. The zero value of a time is its default.
type VerifierConfig struct {
	// Issuer is the server's --issuer.
	Issuer string
	// Audience is that of this service's account or, when that has none, the
	// server's own (--audience). Tokens for others are refused.
	Audience string
	// AccessTokenTTL is how long access tokens live (--access-token-ttl), which is
	// how long a revocation must be remembered: 24 h by default, the server's
	// maximum. A shorter time saves memory. An older token has expired, whatever
	// its claims say.
	AccessTokenTTL time.Duration
	// FeedBound is how long ago the feed of revocations may have been heard last:
	// 3 s by default, and more than 1 s, because Tollgate sends a message every
	// second. A revoked token may pass for so long after the connection is lost.
	FeedBound time.Duration
	// FailClosed makes Verify fail with ErrUnavailable while the feed is older
	// than FeedBound. By default it asks Tollgate about each token then.
	FailClosed bool
	// StaleKeys is how old the public keys may get while they cannot be fetched:
	// 1 h by default, at least 5 min. No token is verified after that. A removed
	// key is refused as soon as the feed says so, whatever the key set says.
	StaleKeys time.Duration
}

// check fills in the defaults.
func (c *VerifierConfig) check() error {
	c.AccessTokenTTL = cmp.Or(c.AccessTokenTTL, jose.MaxTokenTTL)
	c.FeedBound = cmp.Or(c.FeedBound, 3*time.Second)
	c.StaleKeys = cmp.Or(c.StaleKeys, time.Hour)
	switch {
	case c.Issuer == "" || c.Audience == "":
		return errors.New("tollgate: a verifier needs the issuer and the audience of the tokens")
	case c.AccessTokenTTL < time.Second || c.AccessTokenTTL > jose.MaxTokenTTL:
		return fmt.Errorf("tollgate: AccessTokenTTL must be from 1s to %s", jose.MaxTokenTTL)
	case c.FeedBound <= time.Second:
		return errors.New("tollgate: FeedBound must be longer than 1s")
	case c.StaleKeys < jose.KeySetMaxAge:
		return fmt.Errorf("tollgate: StaleKeys must be at least %s", jose.KeySetMaxAge)
	}
	return nil
}

// Verifier verifies access tokens in this process, without the network when
// warm: it keeps Tollgate's public keys and follows its feed of revocations.
// Make one with [NewVerifier], keep it, and Close it. It is safe for concurrent
// use.
type Verifier struct {
	client *Client
	config VerifierConfig

	keys   *keyring
	feed   *feed
	tokens *tokenCache

	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

// NewVerifier returns a [Verifier] of the access tokens of client's Tollgate. It
// fetches the keys and follows the feed from now on, for which client needs the
// permission tollgate:verify; see [Verifier.Wait].
func NewVerifier(client *Client, config VerifierConfig) (*Verifier, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	keys := newKeyring(ctx, client, config.StaleKeys)
	v := &Verifier{
		client: client, config: config, keys: keys, feed: newFeed(client, keys, config.FeedBound, config.AccessTokenTTL),
		tokens: newTokenCache(), ctx: ctx, stop: stop,
	}
	v.running.Go(v.keys.run)
	v.running.Go(func() { v.feed.run(ctx) })
	return v, nil
}

// Close ends the verifier's connections. [Verifier.Verify] fails from then on.
func (v *Verifier) Close() {
	v.stop()
	v.running.Wait()
}

// Wait returns when the verifier has the keys and every revocation up to this
// revision of the change log, the one in the answer of the call that revoked
// something; 0 waits until the verifier is warm. The error is that of ctx, or an
// [*Error] when the verifier was closed.
func (v *Verifier) Wait(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(v.ctx, cancel)()
	err := v.feed.wait(ctx, revision)
	if err == nil {
		err = v.keys.wait(ctx)
	}
	if err != nil && v.ctx.Err() != nil {
		return verifierClosed()
	}
	return err
}

func verifierClosed() *Error { return noAnswer("the verifier was closed", nil) }

// Verify reports whether an access token is good now and whose it is, as
// [Client.Verify] does. Username, Service and Roles of the [Principal] stay
// empty, because a token does not hold them; [Client.Authorize] decides what the
// caller may do.
//
// While the feed of revocations is lost, Verify asks Tollgate about tokens that
// are otherwise good, or fails; see [VerifierConfig]. It always asks about an API
// key. A bad token is an answer, not an error. The error is an [*Error], and then
// nothing is known about the token.
func (v *Verifier) Verify(ctx context.Context, token string) (*Verification, error) {
	found, err := v.verify(ctx, token)
	if found == nil && err == nil {
		return v.client.Verify(ctx, token)
	}
	return found, err
}

// verify returns what this process knows about a token; nil when it must ask
// Tollgate.
func (v *Verifier) verify(ctx context.Context, token string) (*Verification, error) {
	switch {
	case v.ctx.Err() != nil:
		return nil, verifierClosed()
	case kindOf(token) != accessToken:
		return nil, nil
	}
	c, err := v.open(ctx, token)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return &Verification{Reason: ReasonCredentialInvalid}, nil
	case c.audience != v.config.Audience:
		return &Verification{Reason: ReasonWrongAudience}, nil
	}
	now := v.client.now()
	if !now.Before(c.expires) {
		return &Verification{Reason: ReasonCredentialExpired}, nil
	}
	reason, revision, ok := v.feed.look(c, now)
	switch {
	case !ok && v.config.FailClosed:
		return nil, noAnswer("the feed of revocations is lost", nil)
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

// open returns the token's claims when all but its audience and its time is good,
// and nil when it is not. A token that was opened before costs one hash.
func (v *Verifier) open(ctx context.Context, token string) (*claims, error) {
	hash := tokenHash(sha256.Sum256([]byte(token)))
	known := v.tokens.get(hash)
	if known != nil && v.keys.holds(known.key, v.client.now()) {
		return known, nil
	}
	t, ok := jose.Cut(token)
	if !ok {
		return nil, nil
	}
	key, err := v.keys.keyOf(ctx, t, jose.TypeAccessToken)
	switch {
	case err != nil || key == nil:
		return nil, err
	case known != nil && known.key == key:
		return known, nil
	case !key.Verify(t):
		return nil, nil
	}
	now := v.client.now()
	c, ok := readClaims(t, v.config.Issuer, v.config.AccessTokenTTL, now)
	if !ok {
		return nil, nil
	}
	c.key = key
	if now.Before(c.expires) && c.audience == v.config.Audience {
		v.tokens.add(hash, &c)
	}
	return &c, nil
}

// decide allows a call when its credential is good. It asks Tollgate what this
// process does not know, and reports bad credentials there. A missing one is not
// reported, because it is no guess.
func (v *Verifier) decide(ctx context.Context, q AuthorizeRequest) (*Decision, error) {
	q.Authenticated = true
	switch kind := kindOf(q.Credential); {
	case q.Credential == "":
		return &Decision{Reason: ReasonCredentialMissing}, nil
	case kind == notCredential:
		return v.client.report(ctx, q, ReasonCredentialInvalid), nil
	}
	found, err := v.verify(ctx, q.Credential)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return v.client.Authorize(ctx, q)
	case found.Active:
		return &Decision{Allowed: true, Reason: ReasonOK, Principal: found.Principal, Revision: found.Revision}, nil
	case found.Reason == ReasonPasswordChangeRequired:
		return &Decision{Reason: found.Reason}, nil
	}
	return v.client.report(ctx, q, found.Reason), nil
}

// recheck returns why a credential that was good is so no more; ReasonOK when it
// still is, or when this process does not know.
func (v *Verifier) recheck(ctx context.Context, credential string, p *Principal) Reason {
	if p == nil { // the call failed open
		p = &Principal{}
	}
	if kindOf(credential) == accessToken {
		if found, err := v.verify(ctx, credential); err == nil && found != nil {
			return found.Reason
		}
		return ReasonOK
	}
	reason, _, ok := v.feed.look(&claims{userID: p.UserID, apiKeyID: p.APIKeyID}, v.client.now())
	if !ok {
		return ReasonOK
	}
	return reason
}

// Authenticate is middleware that passes a request on when its credential is
// good, whatever its caller may do: next decides that, or [Client.Require] does.
// [FromContext] finds the caller, as far as [Verifier.Verify] knows it. Other
// requests are answered as [Client.Require] does.
//
// A bad credential is also reported to Tollgate, which records it and counts it
// against limits of the caller's address for the permission "authenticated". At
// most 10 reports at once and then one a second are made for each address, so a
// flood does not reach Tollgate. A caller over a limit gets 429.
func (v *Verifier) Authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := v.decide(r.Context(), v.client.newRequest("", r.URL.Path, r.RemoteAddr, r.Header))
		v.client.enforce(w, r, next, "", d, err)
	})
}
