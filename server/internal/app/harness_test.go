package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
)

const adminPassword = "correct horse battery"

// instance is a whole Tollgate in this process, behind a real listener.
type instance struct {
	*App
	url   string
	admin string // an access token
	user  string // the administrator's id
}

// testConfig is the embedded default with cheap passwords.
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

func start(t testing.TB, config Config, clk clock.Clock) *instance {
	t.Helper()
	return startLogging(t, config, clk, slog.New(slog.DiscardHandler))
}

func startLogging(t testing.TB, config Config, clk clock.Clock, log *slog.Logger) *instance {
	t.Helper()
	a, err := Open(t.Context(), config, clk, Out{Stdout: io.Discard, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if _, err := a.BootstrapAdmin(context.Background()); err != nil {
		t.Fatal(err)
	}
	handler, err := a.Handler()
	if err != nil {
		t.Fatal(err)
	}
	a.ready.Store(true)
	server := httptest.NewUnstartedServer(handler)
	server.Config = httpapi.NewServer(handler, log)
	server.Start()
	t.Cleanup(server.Close)
	i := &instance{App: a, url: server.URL}
	login := i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": FirstAdmin, "password": adminPassword})
	login.want(t, http.StatusOK)
	i.admin, i.user = login.str("accessToken"), login.str("userId")
	return i
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

func (i *instance) call(t testing.TB, method, path, token string, body any) answer {
	t.Helper()
	var sent io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		sent = bytes.NewReader([]byte(b))
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, i.url+path, sent)
	if err != nil {
		t.Fatal(err)
	}
	if sent != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return do(t, req)
}

// send makes a call as the administrator, with a body and its type as they are.
func (i *instance) send(t testing.TB, method, path, contentType, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, i.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+i.admin)
	return do(t, req)
}

func do(t testing.TB, req *http.Request) answer {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, raw: raw}
	json.Unmarshal(raw, &a.body) //nolint:errcheck // not every answer is an object
	return a
}

func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.raw)
	}
	return a
}

func (a answer) str(name string) string {
	s, _ := a.body[name].(string)
	return s
}

func (a answer) object(name string) map[string]any {
	m, _ := a.body[name].(map[string]any)
	return m
}

// reason is the reason in the error's google.rpc.ErrorInfo.
func (a answer) reason() string {
	details, _ := a.body["details"].([]any)
	for _, d := range details {
		detail, _ := d.(map[string]any)
		if detail["type"] == "google.rpc.ErrorInfo" {
			debug, _ := detail["debug"].(map[string]any)
			reason, _ := debug["reason"].(string)
			return reason
		}
	}
	return ""
}

// newUser makes a user with a role that holds just these permissions, and
// returns the user's id and an access token.
func (i *instance) newUser(t testing.TB, name string, permissions ...string) (id, token string) {
	t.Helper()
	made := i.call(t, "POST", "/v1/users", i.admin, map[string]any{"username": name, "password": "a password of " + name})
	id, _ = made.want(t, http.StatusOK).object("user")["id"].(string)
	if len(permissions) > 0 {
		i.call(t, "POST", "/v1/roles", i.admin, map[string]any{"name": "role-of-" + name, "permissions": permissions}).want(t, http.StatusOK)
		i.call(t, "PUT", "/v1/roles/role-of-"+name+"/members/"+id, i.admin, map[string]any{}).want(t, http.StatusOK)
	}
	return id, i.login(t, name)
}

func (i *instance) login(t testing.TB, name string) string {
	t.Helper()
	return i.call(t, "POST", "/v1/auth/login", "", map[string]any{"username": name, "password": "a password of " + name}).
		want(t, http.StatusOK).str("accessToken")
}
