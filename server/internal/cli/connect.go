package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
)

const (
	defaultURL  = "http://127.0.0.1:8000"
	maxAnswer   = 16 << 20 // bytes of one answer
	callTimeout = 30 * time.Second
)

// api is a server's API, called with one credential.
type api struct {
	url    string
	auth   tollgatev1connect.AuthServiceClient
	roles  tollgatev1connect.RolesServiceClient
	limits tollgatev1connect.LimitsServiceClient
	routes tollgatev1connect.RoutesServiceClient
	audit  tollgatev1connect.AuditServiceClient
}

// tokens gives the credential of a call.
type tokens interface {
	Token(ctx context.Context) (string, error)
}

// anonymous calls without a credential.
type anonymous struct{}

func (anonymous) Token(context.Context) (string, error) { return "", nil }

// apiKey is a credential that never changes.
type apiKey string

func (k apiKey) Token(context.Context) (string, error) { return string(k), nil }

// connect is the server with the credential that the flags ask for: the API key, or
// else the session of the profile.
func (e *env) connect() (*api, error) {
	if e.APIKey != "" {
		address, err := e.keyAddress()
		if err != nil {
			return nil, err
		}
		return newAPI(address, apiKey(e.APIKey)), nil
	}
	s, err := e.session()
	if err != nil {
		return nil, err
	}
	return newAPI(s.profile.URL, s), nil
}

// keyAddress is where an API key is sent: only where the flags or variables say, never
// to the server of whichever profile happens to be chosen.
func (e *env) keyAddress() (string, error) {
	address := e.URL
	if address == "" && e.Profile != "" {
		p, err := e.store.read(e.Profile)
		if err != nil {
			return "", err
		}
		return p.URL, checkTransport(p.URL, e.AllowHTTP || p.AllowHTTP)
	}
	if address == "" {
		address = defaultURL
	}
	return cleanURL(address, e.AllowHTTP)
}

// cleanURL is an address in the one form that is compared and kept: scheme and host in
// lower case, no slash at the end.
func cleanURL(address string, allowHTTP bool) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("--url must be http:// or https://, a host and maybe a port, such as https://tollgate.example.com")
	}
	u.Host = strings.ToLower(u.Host)
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	clean := strings.TrimRight(u.String(), "/")
	return clean, checkTransport(clean, allowHTTP)
}

// checkTransport refuses to send credentials in the clear to another machine.
func checkTransport(address string, allowHTTP bool) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "https" || allowHTTP || loopback(u.Hostname()) {
		return err
	}
	return fmt.Errorf("%s is not on this machine and not https://, so that passwords and tokens would be readable on the way; use https://, or --allow-http if you are sure", address)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func newAPI(address string, source tokens) *api {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	client := &http.Client{
		Transport: transport,
		// An answer from elsewhere is not this server's, and the credential is for it alone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	options := []connect.ClientOption{connect.WithReadMaxBytes(maxAnswer), connect.WithInterceptors(&caller{address, source})}
	return &api{
		url:    address,
		auth:   tollgatev1connect.NewAuthServiceClient(client, address, options...),
		roles:  tollgatev1connect.NewRolesServiceClient(client, address, options...),
		limits: tollgatev1connect.NewLimitsServiceClient(client, address, options...),
		routes: tollgatev1connect.NewRoutesServiceClient(client, address, options...),
		audit:  tollgatev1connect.NewAuditServiceClient(client, address, options...),
	}
}

// caller is a connect.Interceptor that presents the credential, bounds the wait for an
// answer, and notes in an error which server it came from.
type caller struct {
	url    string
	source tokens
}

func (c *caller) authorize(ctx context.Context, header http.Header) error {
	header.Set("User-Agent", "tollgate-cli")
	token, err := c.source.Token(ctx)
	if err == nil && token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// WrapUnary implements connect.Interceptor.
func (c *caller) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		if err := c.authorize(ctx, req.Header()); err != nil {
			return nil, err
		}
		res, err := next(ctx, req)
		return res, c.from(err)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (c *caller) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		if err := c.authorize(ctx, conn.RequestHeader()); err != nil {
			return &failedConn{conn, err}
		}
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (c *caller) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (c *caller) from(err error) error {
	if err == nil {
		return nil
	}
	return &callError{error: err, url: c.url}
}

// failedConn is a stream that was not begun, for want of a credential.
type failedConn struct {
	connect.StreamingClientConn

	err error
}

func (f *failedConn) Send(any) error { return f.err }
