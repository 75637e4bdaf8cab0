package app

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/conditions"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestLocalDecisionsAgainstServer: what the SDK allows by itself, under random
// policies, the server allows, and records nothing of. It also counts how much of what is
// allowed that is.
func TestLocalDecisionsAgainstServer(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]tollgate.Conditions{"asking about conditions": nil, "evaluating conditions": conditions.Evaluator()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			localAgainstServer(t, engine)
		})
	}
}

func localAgainstServer(t *testing.T, engine tollgate.Conditions) {
	t.Helper()
	rounds, each := 4, 1500
	if os.Getenv("TOLLGATE_CHAOS") != "" {
		rounds, each = 100, 1500
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	l := newLocalModel(t, r, engine)
	for range rounds {
		l.change(t)
		l.learn(t)
		l.compare(t, each)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	share := float64(l.local) / float64(l.local+l.askedAllowed*l.sample)
	t.Logf("%d calls, %d allowed here, %d by a condition, 0 of them refused there; about %.0f%% of what is allowed", rounds*each, l.local, l.conditional, 100*share)
	if share < 0.3 {
		t.Errorf("only %.0f%% of what is allowed is decided locally", 100*share)
	}
	if (l.conditional > 0) != (engine != nil) {
		t.Errorf("%d calls were allowed here by a condition", l.conditional)
	}
}

// localModel is a server, users, and a client that decides by itself.
type localModel struct {
	*instance
	r           *rand.Rand
	client      *tollgate.Client
	reference   *tollgate.Client
	offline     atomic.Bool // asking fails
	ids         []string
	credentials []tollgate.AuthorizeRequest
	limits      []string
	recorded    bool // there is a recording
	engine      tollgate.Conditions

	local, conditional, askedAllowed, sample int
}

func newLocalModel(t *testing.T, r *rand.Rand, engine tollgate.Conditions) *localModel {
	t.Helper()
	l := &localModel{instance: startEmbedded(t), r: r, sample: 20, engine: engine}
	l.call(t, "PATCH", "/v1/limits/sign-in-per-ip", l.admin, map[string]any{"rate": 1000, "burst": 1000}).Want(t, 200)
	l.reference = l.service(t, "reference", "")
	l.client = l.localService(t, "orders", &http.Client{Transport: l}, tollgate.LocalConfig{Conditions: engine}, "tollgate:policy:conditions")
	for i := range 6 {
		id, token := l.newUser(t, fmt.Sprintf("u%d", i))
		l.ids = append(l.ids, id)
		l.credentials = append(l.credentials, tollgate.AuthorizeRequest{Credential: token}, tollgate.AuthorizeRequest{UserID: id})
		for range 2 {
			made := l.call(t, "POST", "/v1/api-keys", l.admin, map[string]any{"name": "k", "userId": id, "scopes": l.patterns(l.r.IntN(3))}).Want(t, 200)
			l.credentials = append(l.credentials, tollgate.AuthorizeRequest{Credential: made.Str("secret")})
		}
	}
	for i := range 8 {
		l.call(t, "POST", "/v1/roles", l.admin, map[string]any{"name": fmt.Sprintf("r%d", i)}).Want(t, 200)
	}
	return l
}

// localService returns the SDK's client of a new service account, which decides by
// itself; it holds these permissions besides.
func (i *instance) localService(t *testing.T, name string, transport *http.Client, config tollgate.LocalConfig, permissions ...string) *tollgate.Client {
	t.Helper()
	id := i.call(t, "POST", "/v1/users", i.admin, map[string]any{"username": name, "kind": "USER_KIND_SERVICE"}).Want(t, 200).Str("user", "id")
	i.call(t, "POST", "/v1/roles", i.admin, map[string]any{"name": "local-" + name, "permissions": append(permissions, "tollgate:authorize", "tollgate:policy:watch")}).Want(t, 200)
	i.call(t, "PUT", "/v1/roles/local-"+name+"/members/"+id, i.admin, map[string]any{}).Want(t, 200)
	key := i.call(t, "POST", "/v1/api-keys", i.admin, map[string]any{"name": name, "userId": id}).Want(t, 200).Str("secret")
	config.FeedBound = time.Minute
	client, err := tollgate.New(i.URL, tollgate.WithAPIKey(key), tollgate.WithTimeout(30*time.Second), tollgate.WithLogger(slog.New(slog.DiscardHandler)),
		tollgate.WithHTTPClient(transport), tollgate.WithLocalDecisions(config))
	backendtest.Must(t, err)
	t.Cleanup(client.Close)
	backendtest.Must(t, client.WaitPolicy(t.Context(), 0))
	return client
}

// RoundTrip makes it visible that the client asks.
func (l *localModel) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.offline.Load() && strings.Contains(r.URL.Path, "Authorize") {
		return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
	}
	return http.DefaultTransport.RoundTrip(r)
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func (l *localModel) permission() string {
	return pick(l.r, "o:a", "o:b", "o:a:c", "o:a:d", "p:a", "p:b", "q")
}

func (l *localModel) patterns(n int) []string {
	list := map[string]bool{}
	for range n {
		list[pick(l.r, "o:*", "o:a:*", "p:*", l.permission(), l.permission(), l.permission())] = true
	}
	if l.r.IntN(30) == 0 && n > 0 {
		list["*"] = true
	}
	all := make([]string, 0, len(list))
	for p := range list {
		all = append(all, p)
	}
	return all
}

// change makes another policy.
func (l *localModel) change(t *testing.T) {
	t.Helper()
	l.describe(t)
	for i := range 8 {
		edit := map[string]any{"permissions": l.patterns(l.r.IntN(2 + i%2))}
		var grants []map[string]any
		for range l.r.IntN(5) {
			grants = append(grants, map[string]any{
				"permission": l.patterns(1)[0], "effect": pick(l.r, "EFFECT_ALLOW", "EFFECT_ALLOW", "EFFECT_ALLOW", "EFFECT_ALLOW", "EFFECT_DENY"), "condition": l.condition(),
			})
		}
		edit["grants"] = grants
		var inherits []string
		if i > 0 && l.r.IntN(3) == 0 {
			inherits = append(inherits, fmt.Sprintf("r%d", l.r.IntN(i)))
		}
		edit["inherits"] = inherits
		for field, clear := range map[string]string{"permissions": "clearPermissions", "grants": "clearGrants", "inherits": "clearInherits"} {
			if fmt.Sprint(edit[field]) == "[]" {
				delete(edit, field)
				edit[clear] = true
			}
		}
		l.call(t, "PATCH", fmt.Sprintf("/v1/roles/r%d", i), l.admin, edit).Want(t, 200)
	}
	for _, name := range l.limits {
		l.call(t, "DELETE", "/v1/limits/"+name, l.admin, nil).Want(t, 200)
	}
	l.limits = nil
	for i := range l.r.IntN(3) {
		name := fmt.Sprintf("l%d", i)
		limit := map[string]any{
			"name": name, "permission": pick(l.r, "o:a:*", "p:*", "q", "authenticated", l.permission()), "rate": 1, "period": "3600s",
			"subject": pick(l.r, "SUBJECT_USER", "SUBJECT_IP", "SUBJECT_API_KEY", "SUBJECT_GLOBAL", "SUBJECT_CUSTOM", "SUBJECT_USER_IP"),
		}
		if limit["subject"] == "SUBJECT_CUSTOM" {
			limit["contextKey"] = "tenant"
		}
		l.call(t, "POST", "/v1/limits", l.admin, limit).Want(t, 200)
		l.limits = append(l.limits, name)
	}
	l.record(t)
	for _, id := range l.ids {
		for i := range 8 {
			method, body := "DELETE", any(nil)
			if l.r.IntN(4) == 0 {
				method, body = "PUT", map[string]any{}
			}
			if a := l.call(t, method, fmt.Sprintf("/v1/roles/r%d/members/%s", i, id), l.admin, body); a.Status != 200 && a.Status != 404 {
				t.Fatal(a.Raw)
			}
		}
	}
	made := l.call(t, "POST", "/v1/roles", l.admin, map[string]any{"name": "last"}).Want(t, 200)
	l.call(t, "DELETE", "/v1/roles/last", l.admin, nil).Want(t, 200)
	revision, err := strconv.ParseInt(made.Str("revision"), 10, 64)
	backendtest.Must(t, err)
	backendtest.Must(t, l.client.WaitPolicy(t.Context(), revision+1))
}

// record has other calls recorded than before.
func (l *localModel) record(t *testing.T) {
	t.Helper()
	if l.recorded {
		l.call(t, "DELETE", "/v1/audit/recordings/r", l.admin, nil).Want(t, 200)
	}
	if l.recorded = l.r.IntN(2) > 0; l.recorded {
		l.recording(t, "r", pick(l.r, "o:a:*", "authenticated", l.permission(), l.permission(), l.permission()), 0)
	}
}

// learn has the client ask about each credential.
func (l *localModel) learn(t *testing.T) {
	t.Helper()
	l.offline.Store(false)
	for _, r := range l.credentials {
		r.Permission = "learn"
		_, err := l.client.Authorize(t.Context(), r)
		backendtest.Must(t, err)
	}
	l.offline.Store(true)
}

// request is a random one.
func (l *localModel) request() tollgate.AuthorizeRequest {
	q := pick(l.r, l.credentials...)
	switch l.r.IntN(8) {
	case 0:
		q.AnyOf = []string{"o:a", l.permission() + ":x", l.permission() + ":y"}
	case 1:
		q.AllOf = []string{l.permission(), "o:b:x"}
	case 2:
		q.Self, q.SelfOnly = pick(l.r, l.ids...), true
	case 3:
		q.Authenticated, q.Permission = true, pick(l.r, "", l.permission())
	case 4:
		q.Self, q.Permission = pick(l.r, l.ids...), l.permission()
	default:
		q.Permission = l.permission()
	}
	if l.r.IntN(2) == 0 {
		q.IP = netip.MustParseAddr(pick(l.r, "192.0.2.1", "2001:db8::1"))
	}
	if l.r.IntN(2) == 0 {
		q.Context = map[string]string{"tenant": pick(l.r, "acme", "other")}
	}
	q.Resource = pick(l.r, "", "orders/1", "bills/2", "orders/1/"+strings.Repeat("é", 200))
	if l.r.IntN(3) == 0 {
		q.ResourceAttributes, q.ActionProperties = l.attributes(), l.attributes()
	}
	q.Recheck = l.r.IntN(10) == 0
	return q
}

// compare asks the server about all that the client allows, and about some of the
// rest.
func (l *localModel) compare(t *testing.T, calls int) {
	t.Helper()
	var here, asked []tollgate.AuthorizeRequest
	var by []string // the grants of here
	for i := range calls {
		q := l.request()
		switch d, err := l.client.Authorize(t.Context(), q); {
		case err == nil && d.Allowed:
			here, by = append(here, q), append(by, d.Grant)
			if d.Grant != "" {
				l.conditional++
			}
		case err == nil:
			t.Fatalf("%+v: refused without asking: %+v", q, d)
		case i%l.sample == 0 && q.ResourceAttributes["large"] == nil && q.ActionProperties["large"] == nil:
			asked = append(asked, q)
		}
	}
	l.local += len(here)
	events := backendtest.Count(t, l.db, `SELECT COUNT(*) FROM audit_events WHERE action = 'access.allowed'`)
	decided := l.decide(t, here)
	backendtest.WantCount(t, l.db, events, `SELECT COUNT(*) FROM audit_events WHERE action = 'access.allowed'`)
	for i, d := range decided {
		switch {
		case !d.Allowed:
			t.Errorf("%+v: allowed here, there %+v", here[i], *d)
		case l.engine != nil && d.Grant != by[i]:
			t.Errorf("%+v: allowed here by %q, there by %q", here[i], by[i], d.Grant)
		}
	}
	for _, d := range l.decide(t, asked) {
		if d.Allowed {
			l.askedAllowed++
		}
	}
}

func (l *localModel) decide(t *testing.T, list []tollgate.AuthorizeRequest) (all []*tollgate.Decision) {
	t.Helper()
	for len(list) > 0 {
		n := min(len(list), 100)
		decisions, err := l.reference.BatchAuthorize(t.Context(), list[:n])
		backendtest.Must(t, err)
		all, list = append(all, decisions...), list[n:]
	}
	return all
}
