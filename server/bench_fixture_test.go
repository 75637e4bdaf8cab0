package main_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/auth/token"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// benchMasterKey is that of settings.
var benchMasterKey = base64.StdEncoding.EncodeToString([]byte("a master key for tests, 32 bytes"))

const (
	benchIssuer   = "http://localhost:8000" // the default
	benchPassword = "a password of the bench"
	aLot          = 1_000_000_000 // the rate of limits that must not refuse
	spreadRate    = 1_000_000     // an hour, of the limit with many keys
)

// measured is a server to put under load, with what its cases need.
type measured struct {
	*tollgate
	env          []string
	redis        redis.UniversalClient // nil: none
	grpc         string                // address of the gRPC listener
	key          string                // an API key of a service
	alice, token string                // a user's id and access token
	cold         *turns                // access tokens of users whom the server has not seen
}

// turns gives each part of a list once, and starts over at its end.
type turns struct {
	list []string
	next int
}

func (u *turns) take(n int) []string {
	if u.next+n > len(u.list) {
		u.next = 0
	}
	part := u.list[u.next : u.next+n]
	u.next += n
	return part
}

// newMeasured starts a server on these backends, with cold users and routes.
func newMeasured(t *testing.T, size benchSize, databaseURL, redisURL string) *measured {
	t.Helper()
	m := &measured{grpc: freeAddress(t)}
	m.env = settings(databaseURL, redisURL, "TOLLGATE_ACCESS_TOKEN_TTL=24h", fmt.Sprintf("TOLLGATE_BCRYPT_COST=%d", size.bcrypt), "TOLLGATE_GRPC_LISTEN="+m.grpc)
	if redisURL != "" {
		options, err := redis.ParseURL(redisURL)
		backendtest.Must(t, err)
		m.redis = redis.NewClient(options)
		t.Cleanup(func() { m.redis.Close() })
	}
	m.tollgate = serve(t, t.TempDir(), m.env...)
	m.Token = m.Login(t, "admin", adminPassword).Str("accessToken")
	for _, limit := range []string{"sign-in-per-ip", "sign-in-per-user", "sign-in-per-user-and-ip", "anonymous-refusals-per-ip"} {
		m.Patch(t, "/v1/limits/"+limit, object{"rate": 1000000, "burst": 1000000})
	}
	m.Post(t, "/v1/roles", object{"name": "meter", "permissions": []string{"tollgate:limits:check", "tollgate:audit:record", "tollgate:audit:read", "tollgate:policy:watch", "tollgate:policy:conditions"}})
	service := m.Post(t, "/v1/users", object{"username": "bench", "kind": "USER_KIND_SERVICE", "roles": []string{"service", "meter"}}).Str("user", "id")
	m.key = m.Post(t, "/v1/api-keys", object{"userId": service, "name": "bench"}).Str("secret")
	m.Post(t, "/v1/roles", object{
		"name": "reader", "permissions": []string{"orders:read", "one:read", "three:read", "leased:read", "spread:read", "recorded:read"},
		"grants": []object{{"permission": "documents:read", "condition": `resource.attributes.owner == principal.id && context.tenant == "acme"`}},
	})
	for _, l := range []struct {
		name, subject, permission, contextKey string
		rate                                  int
		period                                string
		lease                                 bool
	}{
		{"one-user", "USER", "one:*", "", aLot, "1s", false},
		{"three-user", "USER", "three:*", "", aLot, "1s", false},
		{"three-ip", "IP", "three:*", "", aLot, "1s", false},
		{"three-tenant", "CUSTOM", "three:*", "tenant", aLot, "1s", false},
		{"leased-user", "USER", "leased:*", "", aLot, "1s", true},
		{"leased-ip", "IP", "leased:*", "", aLot, "1s", true},
		{"leased-tenant", "CUSTOM", "leased:*", "tenant", aLot, "1s", true},
		{"check", "CUSTOM", "check:*", "tenant", aLot, "1s", false},
		{"spread", "CUSTOM", "spread:*", "tenant", spreadRate, "3600s", false}, // its keys are remembered
	} {
		m.Post(t, "/v1/limits", object{
			"name": l.name, "subject": "SUBJECT_" + l.subject, "permission": l.permission, "contextKey": l.contextKey, "rate": l.rate, "period": l.period,
			"lease": l.lease, "outage": "OUTAGE_CLOSED", // what was not counted is seen
		})
	}
	m.Post(t, "/v1/audit/recordings", object{"name": "bench", "permission": "recorded:*"})
	m.alice = m.NewUser(t, "alice", benchPassword, "reader")
	m.token = m.Login(t, "alice", benchPassword).Str("accessToken")
	for n := range size.routes {
		m.Post(t, "/v1/routes", object{
			"name": fmt.Sprintf("r%d", n), "path": fmt.Sprintf("/service-%d/orders/{id}", n), "permission": "orders:read", "resource": "orders/{id}",
		})
	}
	m.fill(t, func(ctx context.Context, tx *database.Tx) error { return fillUsers(ctx, tx, 0, size.cold) })
	m.cold = &turns{list: mint(t, databaseURL, size.cold)}
	return m
}

// fill writes to the server's database while the server is down, by SQL, because
// the API would take hours.
func (m *measured) fill(t *testing.T, write func(context.Context, *database.Tx) error) {
	t.Helper()
	m.stop(t)
	db, err := database.OpenWithin(databaseOf(m.env), time.Hour)
	backendtest.Must(t, err)
	defer db.Close()
	backendtest.Must(t, db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
		err := write(ctx, tx)
		if err == nil && !strings.HasPrefix(databaseOf(m.env), "sqlite:") {
			_, err = tx.Exec(ctx, "ANALYZE") // as autovacuum does in time
		}
		return err
	}))
	admin := m.Token
	m.tollgate = serve(t, m.dir, m.env...)
	m.Token = admin
}

// place is where a wire leads on this server.
func (m *measured) place(w wire) place {
	address := hostOf(m.URL)
	if w.name == overGRPCListener.name {
		address = m.grpc
	}
	return place{address: address, pid: m.cmd.Process.Pid, key: m.key, log: m.stderr, redis: m.redis}
}

func databaseOf(env []string) string {
	for _, line := range env {
		if address, found := strings.CutPrefix(line, "TOLLGATE_DATABASE_URL="); found {
			return address
		}
	}
	return ""
}

// numbers are the numbers above $1 up to $2, as i, in SQL of both dialects.
const numbersSQL = ` WITH RECURSIVE n (i) AS (SELECT CAST($1 AS BIGINT) + 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2) `

// paddedSQL is i with twelve digits, to make ids of.
const paddedSQL = `substr(CAST(1000000000000 + i AS TEXT), 2)`

// userID is the id of user number i of fillUsers.
func userID(i int) string { return fmt.Sprintf("00000000-0000-7000-8000-%012d", i) }

// fillUsers adds users from+1 to to, who have the role reader.
func fillUsers(ctx context.Context, tx *database.Tx, from, to int) error {
	if from >= to {
		return nil
	}
	now := time.Now().UnixMicro()
	if _, err := tx.Exec(ctx, `INSERT INTO users (id, username, kind, created_at, updated_at)`+numbersSQL+
		`SELECT '00000000-0000-7000-8000-' || `+paddedSQL+`, 'user-' || `+paddedSQL+`, 'person', $3, $3 FROM n`, from, to, now); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO memberships (role, user_id, assigned_at)`+numbersSQL+
		`SELECT 'reader', '00000000-0000-7000-8000-' || `+paddedSQL+`, $3 FROM n`, from, to, now)
	return err
}

// fillRoles adds n roles with a permission of their own each.
func fillRoles(ctx context.Context, tx *database.Tx, n int) error {
	_, err := tx.Exec(ctx, `INSERT INTO roles (name, permissions, created_at, updated_at)`+numbersSQL+
		`SELECT 'role-' || `+paddedSQL+`, '["p' || `+paddedSQL+` || ':read"]', $3, $3 FROM n`, 0, n, time.Now().UnixMicro())
	return err
}

// eventsBegan is when the first event of fillEvents happened: a second for each of
// a million, and more.
var eventsBegan = time.Now().Add(-2_000_000 * time.Second)

// fillEvents adds events from+1 to to, one for each second, of 100 actors.
func fillEvents(ctx context.Context, tx *database.Tx, from, to int) error {
	_, err := tx.Exec(ctx, `INSERT INTO audit_events (id, time, actor_id, actor_name, action, outcome, resource, request_id, recorded_by)`+numbersSQL+
		`SELECT 'e0000000-0000-7000-8000-' || `+paddedSQL+`, $3 + i * 1000000, 'actor-' || CAST(i % 100 AS TEXT), 'actor-' || CAST(i % 100 AS TEXT),
			'order.read', 'allowed', 'orders/' || CAST(i AS TEXT), 'request-' || CAST(i AS TEXT), 'bench' FROM n`, from, to, eventsBegan.UnixMicro())
	return err
}

// mint makes an access token for each of the first n users, as the server would
// at a sign-in, with its key.
func mint(t *testing.T, databaseURL string, n int) []string {
	t.Helper()
	db, err := database.Open(databaseURL)
	backendtest.Must(t, err)
	defer db.Close()
	key, err := seal.Parse(benchMasterKey)
	backendtest.Must(t, err)
	master, err := seal.New(key)
	backendtest.Must(t, err)
	keys := token.New(token.Options{DB: db, Clock: clock.Real(), Master: master, Issuer: benchIssuer, Audience: "tollgate", TTL: 24 * time.Hour})
	backendtest.Must(t, keys.Load(t.Context()))
	now := time.Now()
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i], err = keys.Sign(token.Claims{
			Subject: userID(i + 1), SessionID: fmt.Sprintf("00000000-0000-7000-9000-%012d", i+1), ID: fmt.Sprintf("00000000-0000-7000-a000-%012d", i+1),
			ClientID: userID(i + 1), AMR: []string{"pwd"}, AuthTime: now, IssuedAt: now, ExpiresAt: now.Add(23 * time.Hour),
		})
		backendtest.Must(t, err)
	}
	return tokens
}
