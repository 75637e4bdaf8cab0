package audit

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// manyEvents is how many events the tests of a large log have: few by default.
func manyEvents(t testing.TB) int {
	t.Helper()
	value := os.Getenv("TOLLGATE_AUDIT_EVENTS")
	if value == "" {
		return 20_000
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 10_000 {
		t.Fatalf("TOLLGATE_AUDIT_EVENTS=%s is not a number from 10000 on", value)
	}
	return n
}

// Every event is twenty seconds after the one before; a third of them, those from
// before manyOld, are on things below "old/".
const manyApart = 20 * time.Second

// manyEnd is just after the last event: later than what PostgreSQL keeps in the partition
// of all that was there before it had months.
var manyEnd = time.Date(2040, 3, 1, 12, 0, 0, 0, time.UTC)

// fillWithMany writes n events, as a log has them: few actions,
// outcomes and reasons, a thousand people, sessions of ten calls, most things and
// addresses named now and then, and some hardly ever.
func fillWithMany(t testing.TB, db *database.DB, n int) {
	t.Helper()
	numbers, hex := `generate_series($1::bigint, $2::bigint - 1) AS s(n)`, `lpad(to_hex(a), 8, '0')`
	if db.Dialect == database.SQLite {
		numbers = `(WITH RECURSIVE s(n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM s WHERE n + 1 < $2) SELECT n FROM s) AS s`
		hex = `printf('%08x', a)`
	}
	if db.Dialect == database.PostgreSQL {
		for m := month(manyEnd.Add(-time.Duration(n)*manyApart), 0); m.from < manyEnd.UnixMicro(); m = month(time.UnixMicro(m.to), 0) {
			backendtest.Must(t, makeMonth(t.Context(), db, m))
		}
	}
	// r is spread like random numbers, the same every time, and a is an IPv4 address.
	const made = `(SELECT n, r, CASE WHEN r = 99 THEN 3405803776 + n % 200 ELSE 167772160 + r * 613 END AS a
		FROM (SELECT n, ((n * 7919 + 13) % 10007) AS r FROM NUMBERS) AS numbered) AS made`
	statements := strings.NewReplacer("MADE", strings.Replace(made, "NUMBERS", numbers, 1), "HEX", hex)
	for from := 0; from < n; from += 50_000 {
		args := []any{from, min(from+50_000, n), n, manyEnd.Add(-time.Duration(n) * manyApart).UnixMicro(), manyApart.Microseconds()}
		_, err := db.Exec(t.Context(), statements.Replace(`
		INSERT INTO audit_events (id, time, actor_id, actor_name, session_id, api_key_id, action, outcome, reason, resource, ip, user_agent, request_id, details, recorded_by)
		SELECT '01999999-0000-7000-8000-' || (100000000000 + n), $4 + n * $5, 'id-of-user-' || (r % 1000), 'user-' || (r % 1000),
			CASE WHEN n % 3 = 0 THEN '' ELSE 'session-' || (n / 10) END, CASE WHEN n % 3 = 0 THEN 'key-' || (r % 50) ELSE '' END,
			CASE WHEN r % 10 < 5 THEN 'access.denied' WHEN r % 10 < 7 THEN 'auth.refresh' WHEN r = 77 THEN 'role.create'
				WHEN r % 10 < 9 THEN 'order.' || CASE r % 4 WHEN 0 THEN 'pay' WHEN 1 THEN 'cancel' ELSE 'ship' END ELSE 'auth.login' END,
			CASE WHEN r % 10 < 5 THEN 'denied' WHEN r % 97 = 0 THEN 'failure' ELSE 'success' END,
			CASE WHEN r % 10 < 5 THEN 'permission_missing' WHEN r % 97 = 0 THEN 'wrong_password' ELSE '' END,
			CASE WHEN r = 99 THEN 'rare/' || n WHEN n < $3 / 3 THEN 'old/' || (n / 2) WHEN r % 2 = 0 THEN 'orders/' || (n / 4)
				WHEN r % 100 = 1 THEN 'roles/role-' || (r % 7) ELSE 'users/' || (r % 1000) END,
			CASE WHEN r % 11 = 1 THEN '' ELSE (a / 16777216) || '.' || (a / 65536 % 256) || '.' || (a / 256 % 256) || '.' || (a % 256) END,
			'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0', 'request-' || n,
			'{"permission":"orders:read","role":"clerk"}', CASE WHEN r % 10 < 5 THEN '' ELSE 'id-of-service-' || (r % 5) END
		FROM MADE`), args...)
		backendtest.Must(t, err)
		args[2] = []byte("0123456789abcdef")
		_, err = db.Exec(t.Context(), statements.Replace(`
		INSERT INTO audit_leaves (leaf, event_id, time, salt, address)
		SELECT n, '01999999-0000-7000-8000-' || (100000000000 + n), $4 + n * $5, $3, CASE WHEN r % 11 = 1 THEN '' ELSE '4' || HEX END
		FROM MADE`), args...)
		backendtest.Must(t, err)
	}
	if db.Dialect == database.PostgreSQL { // as autovacuum does
		for _, table := range []string{"audit_events", "audit_leaves"} {
			_, err := db.Exec(t.Context(), `VACUUM (ANALYZE) `+table)
			backendtest.Must(t, err)
		}
	}
}
