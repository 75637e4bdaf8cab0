package tollgate

import (
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
	maxAnswer      = 1 << 20  // bytes of one answer, decompressed
	maxTold        = 32 << 20 // bytes of one message of the revocation feed
)

// Client asks one Tollgate. It is safe for concurrent use; make one and keep
// it, because it holds the connections.
type Client struct {
	auth     tollgatev1connect.AuthServiceClient
	roles    tollgatev1connect.RolesServiceClient
	limits   tollgatev1connect.LimitsServiceClient
	audit    tollgatev1connect.AuditServiceClient
	clientIP func(remote netip.Addr, header http.Header) netip.Addr
	log      *slog.Logger
	now      func() time.Time
	audience string // that a TokenSource asks for
	reports  *reports

	// For a Verifier and a TokenSource.
	base    string
	public  *http.Client // presents no credential
	feed    tollgatev1connect.AuthServiceClient
	timeout time.Duration
}

type config struct {
	http     *http.Client
	source   func(context.Context) (string, error)
	timeout  time.Duration
	clientIP func(netip.Addr, http.Header) netip.Addr
	log      *slog.Logger
	now      func() time.Time
	audience string
	err      error // the first option that cannot work
}

// Option changes how a Client works.
type Option func(*config)

// WithAPIKey has the client present this API key. Of several options that give
// a credential the last one counts.
func WithAPIKey(key string) Option {
	if kindOf(key) != apiKey {
		return bad("the API key must be one that Tollgate issued: it starts with " + keyPrefix)
	}
	return WithTokenSource(constant(key))
}

// WithAccessToken has the client present this access token, for a program that
// ends before the token does. Others use WithAPIKey or WithTokenSource.
func WithAccessToken(token string) Option {
	if kindOf(token) != accessToken {
		return bad("the access token must be one that Tollgate issued")
	}
	return WithTokenSource(constant(token))
}

// WithTokenSource asks source for the credential of each call. The time that
// source takes is part of the call's timeout, so it should keep the credential
// while that is good. It must be safe for concurrent use.
func WithTokenSource(source func(context.Context) (string, error)) Option {
	return func(c *config) { c.source = source }
}

// WithHTTPClient makes the calls with a copy of client: for TLS settings,
// HTTP/2 without TLS, or instrumentation. Redirects are refused all the same.
func WithHTTPClient(client *http.Client) Option {
	return func(c *config) { c.http = client }
}

// WithTimeout bounds every call but streams; 2 s unless given. A context that
// ends earlier counts.
func WithTimeout(d time.Duration) Option {
	if d <= 0 {
		return bad("the timeout must be longer than zero")
	}
	return func(c *config) { c.timeout = d }
}

// WithClientIP says where a caller's IP address is found when a proxy stands
// before this service; remote is the address of the peer, header the request's.
// Without this option the peer's own address counts, which is right when no
// proxy is there.
//
// A caller can write anything into X-Forwarded-For: trust it only when remote
// is your proxy, and then only the entry that your proxy appended, the last.
func WithClientIP(find func(remote netip.Addr, header http.Header) netip.Addr) Option {
	return func(c *config) { c.clientIP = find }
}

// WithLogger is told when the middleware or the interceptor refused a call
// because Tollgate could not be asked; slog.Default unless given.
func WithLogger(log *slog.Logger) Option {
	return func(c *config) { c.log = log }
}

// WithAudience has a TokenSource ask for access tokens that are for one service
// alone (RFC 8707), named as that service's account in Tollgate or its Verifier
// names it: 1 to 128 visible ASCII characters. No other service accepts them,
// nor does Tollgate's own API. A Client has no use for it.
func WithAudience(audience string) Option {
	if audience == "" || len(audience) > 128 || strings.ContainsFunc(audience, func(r rune) bool { return r < '!' || r > '~' }) {
		return bad("an audience has 1 to 128 visible ASCII characters")
	}
	return func(c *config) { c.audience = audience }
}

// WithClock reads the time from now, in tests: it is what a Verifier and a
// TokenSource look at to tell what has expired. It must be safe for concurrent
// use. Timeouts and waits go by the real time.
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

func constant(credential string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return credential, nil }
}

// New returns a client of the Tollgate at baseURL, such as
// "https://tollgate.internal". It makes no call.
//
// The credential goes to that address and nowhere else. With http: it goes
// there in the clear, which is for the loopback interface and for networks
// that encrypt by themselves.
func New(baseURL string, opts ...Option) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		// The parser's error repeats the URL, which may hold a password.
		return nil, errors.New("tollgate: the base URL must look like https://tollgate.example.com")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("tollgate: the base URL must hold no user, query or fragment; give the credential as an option")
	}
	c := config{http: &http.Client{Transport: newTransport()}, timeout: defaultTimeout, now: time.Now}
	for _, opt := range opts {
		opt(&c)
	}
	if c.err != nil {
		return nil, c.err
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	caller := http.Client{}
	if c.http != nil {
		caller = *c.http
	}
	public := caller
	public.Transport = &transport{next: caller.Transport}
	caller.Transport = &transport{next: caller.Transport, source: c.source}
	streams := caller
	streams.Timeout = 0 // it would end the feed again and again
	bounds := connect.WithInterceptors(calls{c.timeout})
	with := connect.WithClientOptions(connect.WithReadMaxBytes(maxAnswer), bounds)
	return &Client{
		auth:     tollgatev1connect.NewAuthServiceClient(&caller, baseURL, with),
		roles:    tollgatev1connect.NewRolesServiceClient(&caller, baseURL, with),
		limits:   tollgatev1connect.NewLimitsServiceClient(&caller, baseURL, with),
		audit:    tollgatev1connect.NewAuditServiceClient(&caller, baseURL, with),
		clientIP: c.clientIP,
		log:      c.log,
		now:      c.now,
		audience: c.audience,
		reports:  newReports(),
		base:     strings.TrimRight(baseURL, "/"),
		public:   &public,
		feed:     tollgatev1connect.NewAuthServiceClient(&streams, baseURL, connect.WithReadMaxBytes(maxTold), bounds),
		timeout:  c.timeout,
	}, nil
}

// Auth is the generated client of AuthService: users, sessions, API keys.
// Its calls, as those of the other three, carry the credential and the timeout,
// and fail with an *Error.
func (c *Client) Auth() tollgatev1connect.AuthServiceClient { return c.auth }

// Roles is the generated client of RolesService.
func (c *Client) Roles() tollgatev1connect.RolesServiceClient { return c.roles }

// Limits is the generated client of LimitsService.
func (c *Client) Limits() tollgatev1connect.LimitsServiceClient { return c.limits }

// Audit is the generated client of AuditService. An answer may have 1 MiB: read
// long events in small pages.
func (c *Client) Audit() tollgatev1connect.AuditServiceClient { return c.audit }
