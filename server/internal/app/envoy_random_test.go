package app

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/routes"
	"github.com/tollgatehq/tollgate/server/internal/routes/routestest"
)

// credential is one way to be somebody, and what a naive reader makes of it.
type credential struct {
	header []string
	holds  []string // permissions
	bad    bool
}

// target is one request target, and the route that a naive reader finds: "" for
// none, refused for what is refused.
type target struct{ path, route string }

const refusedTarget = "(refused)"

// naiveRoute finds the route of plain segments among those of routestest.
func naiveRoute(segments []string) string {
	switch n := len(segments); {
	case n == 0:
		return "home"
	case segments[0] == "admin" && n > 1:
		return "admin-below"
	case segments[0] == "admin":
		return "admin"
	case n == 1:
		return "page"
	case segments[0] == "public":
		return "public"
	case segments[0] == "orders" && n == 2:
		return "order"
	case segments[0] == "orders" && n == 3 && segments[2] == "notes":
		return "notes"
	default:
		return ""
	}
}

func someTarget(r *rand.Rand) target {
	query := []string{"", "", "?", "?page=2", "?x=/../admin", "?%2e%2e"}[r.IntN(6)]
	if r.IntN(3) == 0 {
		h := routestest.HostilePaths[r.IntN(len(routestest.HostilePaths))]
		switch h.Route {
		case "":
			return target{h.Target, refusedTarget}
		case routestest.None:
			return target{h.Target, ""}
		}
		return target{h.Target, h.Route}
	}
	var segments []string
	for range r.IntN(5) {
		segments = append(segments, []string{"orders", "admin", "public", "notes", "7", "Admin", "x.css"}[r.IntN(7)])
	}
	spelled := slices.Clone(segments)
	for i := range spelled {
		if r.IntN(4) == 0 { // an escape of a letter is the letter
			spelled[i] = fmt.Sprintf("%%%02x%s", spelled[i][0], spelled[i][1:])
		}
	}
	return target{"/" + strings.Join(spelled, "/") + query, naiveRoute(segments)}
}

// naiveVerdict says what a naive reader of the rules expects: allowed, error, or a status.
func naiveVerdict(c credential, extensions map[string]string, at target) string {
	needs, public := extensions["permission"], false
	_, settings := extensions["cost"]
	switch {
	case needs == "orders:*" || needs == "" && settings:
		return "error"
	case at.route == refusedTarget:
		return "400"
	case extensions["authenticated"] != "":
		if c.bad {
			return "401"
		}
		return "allowed"
	case needs == "":
		table := routestest.Routes()
		i := slices.IndexFunc(table, func(r routes.Route) bool { return r.Name == at.route })
		if i < 0 {
			return "403"
		}
		needs, public = table[i].Permission, table[i].Public
	}
	switch {
	case public:
		return "allowed"
	case c.bad:
		return "401"
	case slices.Contains(c.holds, needs):
		return "allowed"
	default:
		return "403"
	}
}

// TestExtAuthzAgreesWithAModel: 10,000 requests, each through the whole handler.
func TestExtAuthzAgreesWithAModel(t *testing.T) {
	t.Parallel()
	config := testConfig(backendtest.SQLiteURL(t))
	config.TrustedProxies = []string{"127.0.0.1"}
	p := &proxied{instance: start(t, config, clock.Real())}
	for _, r := range routestest.Routes() {
		p.route(t, r.Name, r.Path, apitest.Object{"permission": r.Permission, "public": r.Public})
	}
	_, alice := p.newUser(t, "alice", "orders:read")
	_, bob := p.newUser(t, "bob", "admin:read", "tollgate:keys:write")
	key := p.As(bob).Post(t, "/v1/api-keys", apitest.Object{"name": "k", "scopes": []string{"admin:read"}}).Str("secret")
	narrow := p.As(bob).Post(t, "/v1/api-keys", apitest.Object{"name": "k", "scopes": []string{"tollgate:keys:write"}}).Str("secret")
	id, gone := p.newUser(t, "gone", "orders:read", "admin:read")
	p.As(p.admin).Call(t, "DELETE", "/v1/users/"+id+"/sessions", nil).Want(t, 200)
	orders, admin := []string{"orders:read"}, []string{"admin:read"}
	credentials := []credential{
		{nil, nil, true},
		{[]string{"authorization", "Bearer " + alice}, orders, false},
		{[]string{"authorization", "bearer " + bob}, admin, false},
		{[]string{"authorization", "Bearer " + key}, admin, false},
		{[]string{"x-api-key", key}, admin, false},
		{[]string{"x-api-key", narrow}, nil, false},
		{[]string{"authorization", "Bearer " + gone}, nil, true},
		{[]string{"authorization", "Bearer " + alice + "x"}, nil, true},
		{[]string{"authorization", "Bearer  " + alice}, nil, true},
		{[]string{"authorization", "Bearer " + alice + "," + alice}, nil, true},
		{[]string{"authorization", alice}, nil, true},
		{[]string{"authorization", ""}, nil, true},
		{[]string{"authorization", "Bearer " + alice, "authorization", "Bearer " + alice}, nil, true},
		{[]string{"authorization", "Bearer " + alice, "x-api-key", key}, nil, true},
		{[]string{"x-api-key", key, "x-api-key", key}, nil, true},
		{[]string{"x-api-key", alice}, nil, true},
		{[]string{"x-tollgate-key", key, "tollgate-principal", "x"}, nil, true},
		{[]string{"proxy-authorization", "Bearer " + alice, "cookie", "token=" + alice}, nil, true},
	}
	extensions := []map[string]string{
		{}, {}, {}, {}, {"audience": "orders"}, {"headers": "remote"},
		{"permission": "orders:read"}, {"permission": "admin:read", "tenant": "acme"}, {"permission": "other:x", "cost": "3", "resource": "x"},
		{"authenticated": "true"}, {"authenticated": "true", "permission": "other:x"},
		{"permission": "orders:*"}, {"cost": "3"},
	}
	handler, err := p.Handler()
	backendtest.Must(t, err)
	ask := check(handler)
	seed := rand.Uint64()
	var group sync.WaitGroup
	for worker := range uint64(8) {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, worker))
			for range 1250 {
				c, at := credentials[r.IntN(len(credentials))], someTarget(r)
				s := sent{method: []string{"GET", "POST", "BREW"}[r.IntN(3)], host: "shop.example", target: at.path, from: "192.0.2.7", header: http.Header{}, raw: r.IntN(2) == 0}
				s.extensions = extensions[r.IntN(len(extensions))]
				s = s.with(c.header...)
				for range r.IntN(3) {
					s = s.with(forgedHeaders[r.IntN(len(forgedHeaders))], "forged")
				}
				if strings.ToValidUTF8(at.path, "") != at.path { // what Envoy does, and tells us the bytes besides
					s.raw = true
				}
				res, err := ask(t.Context(), s.request())
				v := judge(res, err, s.header)
				got := v.kind
				if got == "denied" {
					got = fmt.Sprint(v.status)
				}
				if want := naiveVerdict(c, s.extensions, at); got != want {
					t.Errorf("seed %d: %s (%s), want %s: %+v, %q is %q", seed, got, v.why, want, s, at.path, at.route)
				}
				for name, values := range v.upstream {
					if enforce.IsIdentity(name) && slices.Contains(values, "forged") {
						t.Errorf("seed %d: the service gets %s: %v", seed, name, values)
					}
				}
			}
		})
	}
	group.Wait()
}
