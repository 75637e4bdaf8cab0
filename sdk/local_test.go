package tollgate_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// localFixture is a fixture with a client that decides by itself, and is warm.
type localFixture struct {
	*fixture
	t      testing.TB
	client *tollgate.Client
}

func newLocal(t testing.TB, config tollgate.LocalConfig, answers ...answerFunc) *localFixture {
	t.Helper()
	f := newFixture(t, answers...)
	if config.FeedBound == 0 {
		config.FeedBound = time.Hour
	}
	l := &localFixture{fixture: f, t: t, client: f.client(t, tollgate.WithLocalDecisions(config))}
	t.Cleanup(l.client.Close)
	l.heard(0)
	return l
}

// heard waits until the client decides by what was changed last.
func (f *localFixture) heard(revision int64) {
	f.t.Helper()
	must(f.t, f.client.WaitPolicy(f.t.Context(), revision))
}

// want makes a call, and checks the decision and whether Tollgate was asked.
func (f *localFixture) want(r tollgate.AuthorizeRequest, reason tollgate.Reason, asked bool) *tollgate.Decision {
	f.t.Helper()
	before := len(f.Decisions())
	d, err := f.client.Authorize(f.t.Context(), r)
	must(f.t, err)
	if d.Reason != reason || d.Allowed != (reason == tollgate.ReasonOK) {
		f.t.Errorf("%+v: %+v, want %s", r, d, reason)
	}
	if now := len(f.Decisions()); (now > before) != asked {
		f.t.Errorf("%+v: asked %v, want %v", r, now > before, asked)
	}
	return d
}

// reconnect ends the stream, does something, and returns when next was tried twice
// for another one.
func (f *localFixture) reconnect(next tripper, meanwhile func()) {
	f.t.Helper()
	tried := make(chan struct{}, 100)
	f.intercept(func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/WatchPolicy") {
			return f.fixture.next.RoundTrip(r)
		}
		select {
		case tried <- struct{}{}:
		default:
		}
		return next(r)
	})
	f.SetDown(true)
	meanwhile()
	<-tried
	<-tried // the first is over
	f.SetDown(false)
}

const (
	here  = false // where a decision is made
	there = true
)

func TestLocal(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{})
	token, key := f.Token("alice"), f.APIKey("alice", "orders:read")
	ip := netip.MustParseAddr("192.0.2.1")
	first := f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read", IP: ip}, tollgate.ReasonOK, there)
	again := f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read", IP: ip}, tollgate.ReasonOK, here)
	if p := again.Principal; p == nil || p.UserID != first.Principal.UserID || p.Username != "alice" || !slices.Equal(p.Roles, []string{"clerk"}) || again.Revision < first.Revision {
		t.Errorf("first %+v, again %+v", first, again)
	}
	f.want(tollgate.AuthorizeRequest{UserID: alicesUser, Permission: "orders:read"}, tollgate.ReasonOK, there)
	f.want(tollgate.AuthorizeRequest{Credential: key, Permission: "orders:read"}, tollgate.ReasonOK, there)
	for _, r := range []tollgate.AuthorizeRequest{
		{Credential: token, Permission: "orders:items:write"},
		{Credential: token, AnyOf: []string{"bills:read", "orders:read"}},
		{Credential: token, AllOf: []string{"orders:write", "orders:read"}},
		{Credential: token, Permission: "bills:read", Self: alicesUser},
		{Credential: token, Self: alicesUser, SelfOnly: true},
		{Credential: token, Authenticated: true},
		{Credential: token, Permission: "orders:read", Cost: 3, Context: map[string]string{"tenant": "acme"}, Recheck: true},
		{Credential: token, Permission: "orders:read", MinRevision: again.Revision, Resource: strings.Repeat("x", 1000)},
		{Credential: key, Permission: "orders:read"},
		{UserID: alicesUser, Permission: "orders:read"},
	} {
		f.want(r, tollgate.ReasonOK, here)
	}
	f.client.Close()
	f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read"}, tollgate.ReasonOK, there)
}

// TestLocalRefusals: who is refused is refused by Tollgate, on record.
func TestLocalRefusals(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{})
	token, key := f.Token("alice"), f.APIKey("alice", "orders:read")
	for _, credential := range []string{token, key} {
		f.want(tollgate.AuthorizeRequest{Credential: credential, Permission: "orders:read"}, tollgate.ReasonOK, there)
	}
	for range 2 {
		f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "bills:read"}, tollgate.ReasonPermissionMissing, there)
		f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders"}, tollgate.ReasonPermissionMissing, there)
		f.want(tollgate.AuthorizeRequest{Credential: token, AllOf: []string{"orders:read", "bills:read"}}, tollgate.ReasonPermissionMissing, there)
		f.want(tollgate.AuthorizeRequest{Credential: key, Permission: "orders:write"}, tollgate.ReasonScopeMissing, there)
		f.want(tollgate.AuthorizeRequest{Credential: key, Self: alicesUser, SelfOnly: true}, tollgate.ReasonSelfOnly, there)
		f.want(tollgate.AuthorizeRequest{Credential: token, Self: "user-bob", SelfOnly: true}, tollgate.ReasonSelfOnly, there)
		f.want(tollgate.AuthorizeRequest{Credential: token + "x", Permission: "orders:read"}, tollgate.ReasonCredentialInvalid, there)
		f.want(tollgate.AuthorizeRequest{Permission: "orders:read"}, tollgate.ReasonCredentialMissing, there)
	}
	// What Tollgate does not take is no decision.
	for _, r := range []tollgate.AuthorizeRequest{
		{Credential: token, Permission: "tollgate:roles:read"}, {Credential: token, Permission: "orders:*"},
		{Credential: token, Permission: "Orders:read"}, {Credential: token}, {Credential: token, AnyOf: []string{"orders:read", "tollgate:x"}},
		{Credential: token, UserID: alicesUser, Permission: "orders:read"},
	} {
		if d, err := f.client.Authorize(t.Context(), r); err == nil {
			t.Errorf("%+v: %+v", r, d)
		}
	}
	many := map[string]string{}
	for i := range 33 {
		many[strings.Repeat("k", i+1)] = "v"
	}
	for _, r := range []tollgate.AuthorizeRequest{ // the fake takes them, Tollgate might not
		{Credential: token, Permission: "orders:read", Cost: -1}, {Credential: token, Permission: "orders:read", Cost: 1_000_001},
		{Credential: token, Permission: "orders:read", MinRevision: -1}, {Credential: token, Permission: "orders:read", MinRevision: 1 << 40},
		{Credential: token, Permission: "orders:read", Context: many}, {Credential: token, Permission: "orders:read", Context: map[string]string{"": "v"}},
		{Credential: token, Permission: "orders:read", Context: map[string]string{"k": strings.Repeat("v", 257)}},
		{Credential: token, Permission: "orders:read", ResourceAttributes: map[string]any{"owner": "alice"}},
		{Credential: token, Permission: "orders:read", ActionProperties: map[string]any{"soft": true}},
		{Credential: token, AnyOf: []string{"orders:read", "orders:read"}},
		{Credential: token, Permission: "orders:read", AnyOf: []string{"orders:read"}},
		{Credential: token, AnyOf: []string{"orders:read"}, AllOf: []string{"orders:write"}},
		{Credential: token, AnyOf: slices.Repeat([]string{"orders:read"}, 17)},
	} {
		f.want(r, tollgate.ReasonOK, there)
	}
}

// TestLocalDropped: what was changed counts as soon as the client has heard of it.
func TestLocalDropped(t *testing.T) {
	t.Parallel()
	const id = "s-1"
	alice := sdktest.User{Name: "alice", Roles: []string{"clerk"}}
	without, disabled, changing := alice, alice, alice
	without.Roles, disabled.Disabled, changing.PasswordChange = nil, true, true
	read := func(credential string) tollgate.AuthorizeRequest {
		return tollgate.AuthorizeRequest{Credential: credential, Permission: "orders:read"}
	}
	for name, c := range map[string]struct {
		change func(f *localFixture, key string)
		token  tollgate.Reason // what the decisions are then
		key    tollgate.Reason
	}{
		"a session":     {func(f *localFixture, _ string) { f.Revoke(id) }, tollgate.ReasonCredentialRevoked, tollgate.ReasonOK},
		"another":       {func(f *localFixture, _ string) { f.Revoke("s-2") }, tollgate.ReasonOK, tollgate.ReasonOK},
		"a key":         {func(f *localFixture, key string) { f.RevokeAPIKey(key) }, tollgate.ReasonOK, tollgate.ReasonCredentialRevoked},
		"a role":        {func(f *localFixture, _ string) { f.SetRole("clerk", "bills:*") }, tollgate.ReasonPermissionMissing, tollgate.ReasonPermissionMissing},
		"a membership":  {func(f *localFixture, _ string) { f.SetUser(without) }, tollgate.ReasonPermissionMissing, tollgate.ReasonPermissionMissing},
		"a user":        {func(f *localFixture, _ string) { f.SetUser(disabled) }, "", tollgate.ReasonUserDisabled},
		"a password":    {func(f *localFixture, _ string) { f.SetUser(changing) }, tollgate.ReasonPasswordChangeRequired, tollgate.ReasonPasswordChangeRequired},
		"a signing key": {func(f *localFixture, _ string) { f.RemoveKey() }, tollgate.ReasonCredentialInvalid, tollgate.ReasonOK},
		"a limit":       {func(f *localFixture, _ string) { f.SetLimit(sdktest.Limit{Name: "l", Permission: "orders:*"}) }, tollgate.ReasonLimited, tollgate.ReasonLimited},
		"another limit": {func(f *localFixture, _ string) { f.SetLimit(sdktest.Limit{Name: "l", Permission: "bills:*"}) }, tollgate.ReasonOK, tollgate.ReasonOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newLocal(t, tollgate.LocalConfig{})
			token, key := f.Token("alice", sdktest.InSession(id)), f.APIKey("alice")
			f.want(read(token), tollgate.ReasonOK, there)
			f.want(read(key), tollgate.ReasonOK, there)
			c.change(f, key)
			f.heard(f.KeepAlive())
			for credential, want := range map[string]tollgate.Reason{token: c.token, key: c.key} {
				before := len(f.Decisions())
				d, err := f.client.Authorize(t.Context(), read(credential))
				must(t, err)
				if d.Reason != want && want != "" || d.Allowed != (want == tollgate.ReasonOK) {
					t.Errorf("%+v, want %s", d, want)
				}
				if !d.Allowed && len(f.Decisions()) == before {
					t.Error("refused without asking")
				}
			}
		})
	}
}

// TestLocalTokenIDs: a client's token that was revoked by itself.
func TestLocalTokenIDs(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{})
	token := f.Token("alice", sdktest.FromAPIKey("key-1"), sdktest.Claim("jti", "t-1"))
	f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read"}, tollgate.ReasonOK, there)
	f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read"}, tollgate.ReasonOK, here)
	f.heard(f.RevokeToken("t-2"))
	f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read"}, tollgate.ReasonOK, here)
	f.heard(f.RevokeToken("t-1"))
	f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read"}, tollgate.ReasonCredentialRevoked, there)
}

// TestLocalEnds: what ends by itself, no feed tells of.
func TestLocalEnds(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{})
	brief := f.Token("alice", sdktest.ExpiresAt(f.now().Add(time.Minute)))
	long := f.Token("alice", sdktest.ExpiresAt(f.now().Add(10*time.Minute)))
	read := func(token string, reason tollgate.Reason, asked bool) {
		t.Helper()
		f.want(tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read"}, reason, asked)
	}
	read(brief, tollgate.ReasonOK, there)
	read(long, tollgate.ReasonOK, there)
	f.add(time.Minute - time.Nanosecond)
	read(brief, tollgate.ReasonOK, here)
	f.add(time.Nanosecond)
	read(brief, tollgate.ReasonCredentialExpired, there)
	f.add(4*time.Minute - time.Nanosecond)
	read(long, tollgate.ReasonOK, here)
	f.add(time.Nanosecond)
	read(long, tollgate.ReasonOK, there) // after 5 minutes once more
	read(long, tollgate.ReasonOK, here)
}

// TestLocalLost: when the feed is lost, each call is asked about, or fails.
func TestLocalLost(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{false, true} {
		f := newLocal(t, tollgate.LocalConfig{FailClosed: closed, FeedBound: time.Hour})
		r := tollgate.AuthorizeRequest{UserID: alicesUser, Permission: "orders:read"}
		f.want(r, tollgate.ReasonOK, there)
		f.add(time.Minute)
		f.want(r, tollgate.ReasonOK, here)
		f.heard(f.KeepAlive())
		f.add(time.Hour + time.Nanosecond)
		if closed {
			if d, err := f.client.Authorize(t.Context(), r); !errors.Is(err, tollgate.ErrUnavailable) {
				t.Errorf("%+v, %v", d, err)
			}
		} else {
			f.want(r, tollgate.ReasonOK, there)
		}
		f.heard(f.KeepAlive())
		f.want(r, tollgate.ReasonOK, closed) // the other has asked already
		f.want(r, tollgate.ReasonOK, here)
	}
}

// TestLocalMayNotWatch: without the permission each call is asked about at once, also
// when it is taken away.
func TestLocalMayNotWatch(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{})
	r := tollgate.AuthorizeRequest{UserID: alicesUser, Permission: "orders:read"}
	f.want(r, tollgate.ReasonOK, there)
	f.want(r, tollgate.ReasonOK, here)
	f.reconnect(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
	}, func() {})
	f.want(r, tollgate.ReasonOK, there)
	f.want(r, tollgate.ReasonOK, there)
}

// TestLocalRestart: what happened before a new stream's snapshot is not known.
func TestLocalRestart(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{})
	r := tollgate.AuthorizeRequest{Credential: f.Token("alice", sdktest.InSession("s-1")), Permission: "orders:read"}
	f.want(r, tollgate.ReasonOK, there)
	f.want(r, tollgate.ReasonOK, here)
	var revision int64
	f.reconnect(f.next.RoundTrip, func() { revision = f.Revoke("s-1") })
	f.heard(revision)
	f.want(r, tollgate.ReasonCredentialRevoked, there)
}

func TestLocalOptions(t *testing.T) {
	t.Parallel()
	source := tollgate.TokenSourceFunc(func(context.Context) (string, error) { return sdktest.ServiceKey, nil })
	for name, opts := range map[string][]tollgate.Option{
		"a bound of a second":    {tollgate.WithLocalDecisions(tollgate.LocalConfig{FeedBound: time.Second})},
		"few principals":         {tollgate.WithLocalDecisions(tollgate.LocalConfig{MaxPrincipals: 99})},
		"accounts that may vary": {tollgate.WithLocalDecisions(tollgate.LocalConfig{}), tollgate.WithTokenSource(source)},
	} {
		if _, err := tollgate.New("http://tollgate.test", opts...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	client := newClient(t, "http://tollgate.test")
	must(t, client.WaitPolicy(t.Context(), 7))
	client.Close()
}
