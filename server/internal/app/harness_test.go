package app

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"google.golang.org/grpc"
)

const adminPassword = "correct horse battery"

// instance is a complete Tollgate in this process, with a listener.
type instance struct {
	*App
	apitest.Client

	ports    *ports
	grpcConn *grpc.ClientConn // to the gRPC port; nil: see serveGRPC
	admin    string           // an access token
	user     string           // the administrator's id
}

// testConfig is the embedded default with the lowest bcrypt cost.
func testConfig(databaseURL string) Config {
	return Config{
		Listen: "127.0.0.1:0", DatabaseURL: databaseURL, Issuer: "http://tollgate.test", Audience: "tollgate",
		AccessTokenTTL: 15 * 60e9, SessionIdle: 24 * 3600e9, SessionMax: 48 * 3600e9,
		BcryptCost: 4, Staleness: 5e9, Reflection: true, AdminPassword: adminPassword,
		MasterKey: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
	}
}

func startEmbedded(t testing.TB) *instance {
	t.Helper()
	return start(t, testConfig(backendtest.SQLiteURL(t)), clock.Real())
}

// onDatabases runs a test once on each database.
func onDatabases(t *testing.T, test func(t *testing.T, i *instance)) {
	t.Helper()
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) { test(t, start(t, testConfig(address), clock.Real())) })
}

// fakeClock is the real clock at a time that the test sets.
func fakeClock(now time.Time) (clock.Clock, *clock.Fake) {
	fake := clock.NewFake(now)
	clk := clock.Real()
	clk.Now = fake.Now
	return clk, fake
}

func start(t testing.TB, config Config, clk clock.Clock) *instance {
	t.Helper()
	return startLogging(t, config, clk, slog.New(slog.DiscardHandler))
}

func startLogging(t testing.TB, config Config, clk clock.Clock, log *slog.Logger) *instance {
	t.Helper()
	a, err := Open(t.Context(), config, clk, Out{Stdout: io.Discard, Log: log})
	backendtest.Must(t, err)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	_, err = a.BootstrapAdmin(context.Background())
	backendtest.Must(t, err)
	p, err := a.openPorts()
	backendtest.Must(t, err)
	handler, err := a.handler(p)
	backendtest.Must(t, err)
	a.ready.Store(true)
	server := httptest.NewUnstartedServer(handler)
	server.Config = httpapi.NewServer(handler, log)
	server.Start()
	t.Cleanup(server.Close)
	i := &instance{App: a, Client: apitest.New(t, server.URL), ports: p}
	login := i.Login(t, FirstAdmin, adminPassword)
	i.admin, i.user = login.Str("accessToken"), login.Str("userId")
	return i
}

// startQuiet is startEmbedded that fails the test when the log has a warning.
func startQuiet(t *testing.T) *instance {
	t.Helper()
	var log lines
	i := startLogging(t, testConfig(backendtest.SQLiteURL(t)), clock.Real(),
		slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	t.Cleanup(func() {
		if i.refused.flush(context.Background()); log.String() != "" {
			t.Errorf("the log says %s", log.String())
		}
	})
	return i
}

// lines is a log that may be read while others write it.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (i *instance) call(t testing.TB, method, path, token string, body any) apitest.Answer {
	t.Helper()
	return i.As(token).Call(t, method, path, body)
}

// send makes a call as the administrator with a body of any type.
func (i *instance) send(t testing.TB, method, path, contentType, body string) apitest.Answer {
	t.Helper()
	return i.As(i.admin).Call(t, method, path, body, "Content-Type", contentType)
}

// newUser makes a user with a role that holds just these permissions, and
// returns the user's id and an access token.
func (i *instance) newUser(t testing.TB, name string, permissions ...string) (id, token string) {
	t.Helper()
	admin := i.As(i.admin)
	id = admin.NewUser(t, name, "a password of "+name)
	if len(permissions) > 0 {
		admin.Post(t, "/v1/roles", map[string]any{"name": "role-of-" + name, "permissions": permissions})
		admin.Assign(t, "role-of-"+name, id)
	}
	return id, i.login(t, name)
}

func (i *instance) login(t testing.TB, name string) string {
	t.Helper()
	return i.Login(t, name, "a password of "+name).Str("accessToken")
}
