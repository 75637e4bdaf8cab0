package tollgate

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
)

const (
	defaultTimeout = 2 * time.Second
	defaultRecheck = 30 * time.Second
	maxAnswer      = 1 << 20  // bytes of one answer, decompressed
	maxRevocations = 32 << 20 // bytes of one message of the revocation feed
)

// Client calls one Tollgate. Make one with [New] and keep it, because it holds
// the connections. It is safe for concurrent use.
type Client struct {
	config
	auth      tollgatev1connect.AuthServiceClient
	roles     tollgatev1connect.RolesServiceClient
	limits    tollgatev1connect.LimitsServiceClient
	routes    tollgatev1connect.RoutesServiceClient
	resources tollgatev1connect.ResourcesServiceClient
	audit     tollgatev1connect.AuditServiceClient
	reports   *reports
	batch     *batcher // nil: calls share no requests
	keys      *callKeys
	open      open

	local    *local // nil: Tollgate decides each call
	policies tollgatev1connect.RolesServiceClient

	// For a Verifier and a Session.
	base   string
	public *http.Client // presents no credential
	feed   tollgatev1connect.AuthServiceClient
}

// config is what options set.
type config struct {
	http     *http.Client
	source   TokenSource // nil: calls carry no credential
	timeout  time.Duration
	clientIP func(remote netip.Addr, header http.Header) netip.Addr // nil: the peer's address
	recheck  time.Duration
	log      *slog.Logger
	now      func() time.Time
	retries  int
	separate bool         // calls share no requests
	local    *LocalConfig // nil: Tollgate decides each call

	failure    FailureMode
	reportOpen func(context.Context, AuthorizeRequest, error) // may be nil
	err        error                                          // of the first option that cannot work
}

// Option changes how a [Client] works.
type Option func(*config)

// WithAPIKey presents this API key with each call. Of several options that give
// a credential the last one counts.
func WithAPIKey(key string) Option {
	if kindOf(key) != apiKey {
		return bad("the API key must be one that Tollgate issued: it starts with " + keyPrefix)
	}
	return WithTokenSource(staticToken(key))
}

// WithAccessToken presents this access token with each call, for a program that
// ends before the token does. Others use [WithAPIKey] or [WithTokenSource].
func WithAccessToken(token string) Option {
	if kindOf(token) != accessToken {
		return bad("the access token must be one that Tollgate issued")
	}
	return WithTokenSource(staticToken(token))
}

// WithTokenSource presents the credential that source gives for each call.
func WithTokenSource(source TokenSource) Option {
	if source == nil {
		return bad("the token source must not be nil")
	}
	return func(c *config) { c.source = source }
}

// WithHTTPClient makes the calls with a copy of client: for TLS settings,
// HTTP/2 without TLS, or instrumentation. Redirects are refused all the same.
func WithHTTPClient(client *http.Client) Option {
	return func(c *config) { c.http = cmp.Or(client, http.DefaultClient) }
}

// WithTimeout bounds every call but streams; 2 s unless given. A context that
// ends earlier counts.
func WithTimeout(d time.Duration) Option {
	if d <= 0 {
		return bad("the timeout must be longer than zero")
	}
	return func(c *config) { c.timeout = d }
}

// WithClientIP finds a caller's IP address when a proxy stands in front of this
// service; remote is the address of the peer, header the request's. Without
// this option the peer's own address counts, which is right without a proxy.
//
// A caller can write anything into X-Forwarded-For: trust it only when remote
// is your proxy, and then only the entry that your proxy appended, the last.
func WithClientIP(find func(remote netip.Addr, header http.Header) netip.Addr) Option {
	return func(c *config) { c.clientIP = find }
}

// WithRecheck bounds how old the decision about a stream's caller may get; 30 s
// unless given. See [Client.Interceptor].
func WithRecheck(d time.Duration) Option {
	if d <= 0 {
		return bad("the time between checks of a stream must be longer than zero")
	}
	return func(c *config) { c.recheck = d }
}

// WithRetries sets how often a call is made again at most; 2 times unless given, 0
// for never.
//
// A call is made again, within its timeout, when that cannot do anything twice:
// Tollgate was not reached, says that it did not take the call, or the call changes
// nothing. Calls that count against limits carry a key by which they count once. The
// waits are random, and longer when Tollgate says so. In an outage a client makes a
// tenth more requests, whatever its calls.
func WithRetries(n int) Option {
	if n < 0 || n > 10 {
		return bad("the number of retries must be from 0 to 10")
	}
	return func(c *config) { c.retries = n }
}

// WithoutBatching has each call of [Client.Authorize] make a request of its own.
//
// Otherwise calls that come while a request is under way gather until that is
// answered, for a millisecond at most, and share the next request, up to 100 of them. A
// request that is shared has a context of its own, without the values of
// its callers' contexts: a transport that reads these, such as for tracing, needs this
// option. A client with a [TokenSource] other than a [Session] never shares requests,
// because it may give each context another credential.
func WithoutBatching() Option { return func(c *config) { c.separate = true } }

// WithLogger logs calls that were refused because Tollgate did not decide about
// them; [slog.Default] unless given.
func WithLogger(log *slog.Logger) Option {
	return func(c *config) { c.log = cmp.Or(log, slog.Default()) }
}

// WithClock reads the time from now, in tests: a [Verifier] and a [Session]
// compare it with the end of a token. It must be safe for concurrent use.
// Timeouts and waits use the real time.
func WithClock(now func() time.Time) Option {
	return func(c *config) { c.now = now }
}

func bad(message string) Option {
	return func(c *config) {
		if c.err == nil {
			c.err = errors.New("tollgate: " + message)
		}
	}
}

// New returns a [Client] of the Tollgate at baseURL, such as
// "https://tollgate.internal". It makes no call.
//
// The credential is sent to that address only. With http: it is sent in the
// clear: use that on the loopback interface or on an encrypted network.
func New(baseURL string, opts ...Option) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		// The parser's error repeats the URL, which may hold a password.
		return nil, errors.New("tollgate: the base URL must look like https://tollgate.example.com")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("tollgate: the base URL must hold no user, query or fragment; give the credential as an option")
	}
	c := &Client{reports: newReports(), keys: newCallKeys(), base: strings.TrimRight(baseURL, "/"), config: config{
		http: &http.Client{Transport: newTransport()}, timeout: defaultTimeout, recheck: defaultRecheck, log: slog.Default(), now: time.Now,
		retries: defaultRetries, failure: FailClosed,
	}}
	for _, opt := range opts {
		opt(&c.config)
	}
	if c.err != nil {
		return nil, c.err
	}
	caller, public := *c.http, *c.http
	caller.Transport = &transport{next: c.http.Transport, source: c.source}
	public.Transport = &transport{next: c.http.Transport}
	streams := caller
	streams.Timeout = 0 // it would end the feed again and again
	bounds := connect.WithInterceptors(calls{c.timeout, &retries{most: c.config.retries}})
	with := connect.WithClientOptions(connect.WithReadMaxBytes(maxAnswer), bounds)
	c.auth = tollgatev1connect.NewAuthServiceClient(&caller, baseURL, with)
	c.roles = tollgatev1connect.NewRolesServiceClient(&caller, baseURL, with, uncompressed)
	c.limits = tollgatev1connect.NewLimitsServiceClient(&caller, baseURL, with)
	c.routes = tollgatev1connect.NewRoutesServiceClient(&caller, baseURL, with)
	c.resources = tollgatev1connect.NewResourcesServiceClient(&caller, baseURL, with)
	c.audit = tollgatev1connect.NewAuditServiceClient(&caller, baseURL, with)
	c.feed = tollgatev1connect.NewAuthServiceClient(&streams, baseURL, connect.WithReadMaxBytes(maxRevocations), bounds)
	c.public = &public
	c.open.refused = newGenerations[tokenHash, struct{}]()
	if !c.separate && oneCredential(c.source) {
		c.batch = &batcher{one: c.roles.Authorize, many: c.roles.BatchAuthorize, refused: newRefusedCalls()}
	}
	if c.config.local != nil {
		if !oneCredential(c.source) {
			return nil, errors.New("tollgate: WithLocalDecisions needs one account; give an API key, an access token or a Session")
		}
		c.policies = tollgatev1connect.NewRolesServiceClient(&streams, baseURL, connect.WithReadMaxBytes(maxPolicyMessage), bounds)
		c.local = newLocal(c, *c.config.local)
	}
	return c, nil
}

// oneCredential says whether a source gives every context the same credential.
func oneCredential(source TokenSource) bool {
	switch source.(type) {
	case nil, staticToken, *Session:
		return true
	default:
		return false
	}
}

// Auth returns the generated client of AuthService: users, sessions, API keys.
// Its calls, as those of the other five, carry the credential and the timeout,
// and fail with an [*Error].
func (c *Client) Auth() tollgatev1connect.AuthServiceClient { return c.auth }

// Roles returns the generated client of RolesService.
func (c *Client) Roles() tollgatev1connect.RolesServiceClient { return c.roles }

// Limits returns the generated client of LimitsService.
func (c *Client) Limits() tollgatev1connect.LimitsServiceClient { return c.limits }

// Routes returns the generated client of RoutesService.
func (c *Client) Routes() tollgatev1connect.RoutesServiceClient { return c.routes }

// Resources returns the generated client of ResourcesService. An answer may have
// 1 MiB: list resources with large attributes in small pages.
func (c *Client) Resources() tollgatev1connect.ResourcesServiceClient { return c.resources }

// Audit returns the generated client of AuditService. An answer may have 1 MiB:
// read long events in small pages.
func (c *Client) Audit() tollgatev1connect.AuditServiceClient { return c.audit }
