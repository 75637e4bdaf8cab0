package sdktest

import (
	"cmp"
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/internal/jose"
	tollgate "github.com/tollgatehq/tollgate/sdk"
)

const (
	// Issuer is the "iss" of a Server's tokens.
	Issuer = "https://tollgate.test"
	// Audience is the server's own, the "aud" of tokens that ask for no other.
	Audience = "tollgate"
	// ServiceKey is the API key that Client presents.
	ServiceKey = "tg_service_under_test"
)

// Server is a Tollgate for tests. It is safe for concurrent use.
type Server struct {
	// URL is the base URL, for [tollgate.New].
	URL string

	http         *httptest.Server
	now          func() time.Time
	keepAlive    time.Duration
	tokenTTL     time.Duration
	audience     string
	interceptors []connect.Interceptor
	permission   *regexp.Regexp
	conditions   tollgate.Conditions // nil: conditions fail
	ended        chan struct{}       // closed by Close

	mu       sync.Mutex
	down     bool
	signer   ed25519.PrivateKey
	keys     []jose.Key // the signer's is the last one
	removed  []string   // ids of keys
	roles    map[string][]string
	grants   map[string][]grant
	users    map[string]User // by name
	apiKeys  map[string]apiKey
	sessions map[string]*session
	tokens   map[string]bool   // revoked by themselves, by "jti"
	refresh  map[string]string // refresh token, spent ones too -> session
	limits   map[string]Limit
	used     map[counter]int64
	once     map[string]bool // calls with an idempotency key that were counted
	serial   int
	revision int64
	feed     []*tollgatev1.WatchRevocationsResponse
	policy   []*tollgatev1.WatchPolicyResponse
	changed  chan struct{} // closed when feed or down changes

	calls     map[string]int
	decisions []Decision
	events    []*tollgatev1.RecordEventRequest

	reservations map[string]reservation // those that are open
	reserved     int                    // how many there were
}

// handler has the RPCs that the SDK calls.
type handler struct {
	tollgatev1connect.UnimplementedAuthServiceHandler
	tollgatev1connect.UnimplementedRolesServiceHandler
	tollgatev1connect.UnimplementedLimitsServiceHandler
	tollgatev1connect.UnimplementedRoutesServiceHandler
	tollgatev1connect.UnimplementedResourcesServiceHandler
	tollgatev1connect.UnimplementedAuditServiceHandler
	server *Server
}

// Option changes how a [Server] works.
type Option func(*Server)

// WithClock reads the time from now; give the same to [tollgate.WithClock], as
// [Server.Client] does.
func WithClock(now func() time.Time) Option { return func(s *Server) { s.now = now } }

// WithTokenTTL sets how long access tokens live; 15 min unless given.
func WithTokenTTL(d time.Duration) Option { return func(s *Server) { s.tokenTTL = d } }

// WithKeepAlive sets how often the feed of revocations sends a message when
// nothing happens; 500 ms unless given. With a long time, a test decides when
// the feed counts as lost.
func WithKeepAlive(d time.Duration) Option { return func(s *Server) { s.keepAlive = d } }

// WithAudience gives the service under test an audience of its own:
// [Server.Token] and [Server.Assertion] are for it, and Verify, Authorize and [Server.Verifier] refuse
// tokens for any other.
func WithAudience(audience string) Option { return func(s *Server) { s.audience = audience } }

// WithInterceptors adds interceptors to the services, which can replace an
// answer, or fail a call, in ways that the server does not.
func WithInterceptors(interceptors ...connect.Interceptor) Option {
	return func(s *Server) { s.interceptors = interceptors }
}

// NewServer starts a [Server] on a loopback port. Close it when the test ends.
func NewServer(opts ...Option) *Server {
	s := &Server{
		now: time.Now, keepAlive: 500 * time.Millisecond, tokenTTL: 15 * time.Minute, audience: Audience, permission: permissionPattern(), ended: make(chan struct{}),
		roles: map[string][]string{}, grants: map[string][]grant{}, users: map[string]User{}, apiKeys: map[string]apiKey{},
		sessions: map[string]*session{}, refresh: map[string]string{},
		limits: map[string]Limit{}, used: map[counter]int64{}, once: map[string]bool{}, reservations: map[string]reservation{}, calls: map[string]int{},
		tokens:  map[string]bool{},
		changed: make(chan struct{}),
	}
	for _, opt := range opts {
		opt(s)
	}
	s.RotateKey()
	mux := http.NewServeMux()
	with := connect.WithInterceptors(s.interceptors...)
	h := handler{server: s}
	mux.Handle(tollgatev1connect.NewAuthServiceHandler(h, with))
	mux.Handle(tollgatev1connect.NewRolesServiceHandler(h, with))
	mux.Handle(tollgatev1connect.NewLimitsServiceHandler(h, with))
	mux.Handle(tollgatev1connect.NewRoutesServiceHandler(h, with))
	mux.Handle(tollgatev1connect.NewResourcesServiceHandler(h, with))
	mux.Handle(tollgatev1connect.NewAuditServiceHandler(h, with))
	mux.HandleFunc("GET /.well-known/jwks.json", s.serveKeys)
	mux.HandleFunc("POST /v1/oauth2/revoke", s.serveRevoke)
	s.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.calls[r.URL.Path]++
		down := s.down
		s.mu.Unlock()
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	s.URL = s.http.URL
	return s
}

// Close ends the server and its streams.
func (s *Server) Close() {
	close(s.ended)
	s.http.Close()
}

// Client returns a client of this server that presents [ServiceKey]. It panics
// when an option cannot work.
func (s *Server) Client(opts ...tollgate.Option) *tollgate.Client {
	client, err := tollgate.New(s.URL, append([]tollgate.Option{tollgate.WithAPIKey(ServiceKey), tollgate.WithClock(s.now)}, opts...)...)
	if err != nil {
		panic(err)
	}
	return client
}

// Verifier returns a verifier of this server's tokens, which the caller closes.
// An empty issuer or audience is the server's. It panics when the config cannot
// work.
func (s *Server) Verifier(config tollgate.VerifierConfig) *tollgate.Verifier {
	config.Issuer, config.Audience = cmp.Or(config.Issuer, Issuer), cmp.Or(config.Audience, s.audience)
	verifier, err := tollgate.NewVerifier(s.Client(), config)
	if err != nil {
		panic(err)
	}
	return verifier
}

// AssertionVerifier returns a verifier of this server's assertions, which the
// caller closes. An empty issuer or audience is the server's. It panics when the
// config cannot work.
func (s *Server) AssertionVerifier(config tollgate.AssertionConfig) *tollgate.AssertionVerifier {
	config.Issuer, config.Audience = cmp.Or(config.Issuer, Issuer), cmp.Or(config.Audience, s.audience)
	verifier, err := tollgate.NewAssertionVerifier(s.Client(), config)
	if err != nil {
		panic(err)
	}
	return verifier
}

// SetDown makes every call fail with Unavailable and ends the streams, until it
// is called with false.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	s.notify()
}

// Decision is one decision of Authorize.
type Decision struct {
	Request  *tollgatev1.AuthorizeRequest
	Response *tollgatev1.AuthorizeResponse
}

// Decisions returns the decisions so far, in order, those of batches included.
func (s *Server) Decisions() []Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.decisions)
}

// Events returns the events that RecordEvent and RecordEvents got, in order.
func (s *Server) Events() []*tollgatev1.RecordEventRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Calls returns the number of HTTP requests whose path ends so:
// "/.well-known/jwks.json", "AuthService/Verify".
func (s *Server) Calls(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for called, times := range s.calls {
		if strings.HasSuffix(called, path) {
			n += times
		}
	}
	return n
}

// notify wakes the streams. The lock is held.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}
