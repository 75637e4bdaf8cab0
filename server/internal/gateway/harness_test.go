package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

const password = "correct horse battery"

// gate is a whole server with a gateway in front of an upstream.
type gate struct {
	apitest.Client                // of the gateway, as alice, who holds orders:read
	api            apitest.Client // as the administrator
	addr           string
	alice          string // her user id
	upstream       *recorder
	stop           context.CancelFunc // starts to drain
	stopped        chan error         // has Serve's result
}

// recorder is an upstream that keeps what it received.
type recorder struct {
	*httptest.Server
	mu      sync.Mutex
	seen    []*http.Request
	handler http.HandlerFunc
}

func newRecorder(t testing.TB, handler http.HandlerFunc) *recorder {
	u := &recorder{handler: handler}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.seen = append(u.seen, r)
		handle := u.handler
		u.mu.Unlock()
		handle(w, r)
	}))
	u.Config.Protocols = new(http.Protocols)
	u.Config.Protocols.SetHTTP1(true)
	u.Config.Protocols.SetUnencryptedHTTP2(true)
	u.Start()
	t.Cleanup(u.Close)
	return u
}

func (u *recorder) requests() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*http.Request(nil), u.seen...)
}

// become changes what the upstream does with further requests.
func (u *recorder) become(handler http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.handler = handler
}

// last is what the upstream received last.
func (u *recorder) last(t testing.TB) *http.Request {
	t.Helper()
	all := u.requests()
	if len(all) == 0 {
		t.Fatal("the upstream received nothing")
	}
	return all[len(all)-1]
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") }

// start starts a server whose gateway sends everything to a handler. The routes are
// /public/{rest...}, which is public, and /orders/{rest...} for orders:read.
func start(t testing.TB, handler http.HandlerFunc, change ...func(*app.Config)) *gate {
	t.Helper()
	g := &gate{upstream: newRecorder(t, handler), stopped: make(chan error, 1)}
	config := app.Config{
		Listen: "127.0.0.1:0", DatabaseURL: backendtest.SQLiteURL(t), Issuer: "http://tollgate.test", Audience: "tollgate",
		AccessTokenTTL: 15 * time.Minute, SessionIdle: time.Hour, SessionMax: time.Hour, BcryptCost: 4, Staleness: 5 * time.Second,
		AdminPassword: password, MasterKey: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
		GatewayListen: "127.0.0.1:0", GatewayUpstream: g.upstream.URL,
	}
	for _, c := range change {
		c(&config)
	}
	log := slog.New(slog.DiscardHandler)
	api, err := app.Listen(config, clock.Real(), log)
	backendtest.Must(t, err)
	front, err := app.ListenGateway(config, clock.Real(), log)
	backendtest.Must(t, err)
	a, err := app.Open(t.Context(), config, clock.Real(), app.Out{Stdout: io.Discard, Log: log})
	backendtest.Must(t, err)
	_, err = a.BootstrapAdmin(t.Context())
	backendtest.Must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	ended := make(chan struct{})
	go func() {
		g.stopped <- a.Serve(ctx, app.Listeners{API: api, Gateway: front})
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		backendtest.Must(t, a.Close())
	})
	g.addr = front.Addr().String()
	scheme := "http://"
	if config.TLSCert != "" {
		scheme = "https://"
	}
	g.api = apitest.New(t, scheme+api.Addr().String())
	if config.TLSCert != "" {
		g.api.HTTP.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	}
	g.api.Token = g.api.Login(t, "admin", password).Str("accessToken")
	g.alice = g.api.NewUser(t, "alice", "a password of alice")
	g.api.Post(t, "/v1/roles", apitest.Object{"name": "readers", "permissions": []string{"orders:read"}})
	g.api.Assign(t, "readers", g.alice)
	g.route(t, "public", "/public/{rest...}", apitest.Object{"public": true})
	g.route(t, "orders", "/orders/{rest...}", apitest.Object{"permission": "orders:read"})
	g.Client = apitest.New(t, scheme+g.addr).As(g.login(t))
	return g
}

func (g *gate) login(t testing.TB) string {
	t.Helper()
	return g.api.As("").Login(t, "alice", "a password of alice").Str("accessToken")
}

func (g *gate) route(t testing.TB, name, path string, more apitest.Object) {
	t.Helper()
	route := apitest.Object{"name": name, "path": path}
	maps.Copy(route, more)
	g.api.Post(t, "/v1/routes", route)
}

// raw sends bytes over a connection of its own, and returns the first answer with
// its body. A client that closes its side before that is gone.
func (g *gate) raw(t testing.TB, text string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	backendtest.Must(t, err)
	defer conn.Close()
	backendtest.Must(t, conn.SetDeadline(time.Now().Add(apitest.Timeout)))
	_, err = io.WriteString(conn, text)
	backendtest.Must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.200q: %v", text, err)
	}
	body, _ := io.ReadAll(res.Body) // as far as it comes, where the server does not read on
	return res, string(body)
}
