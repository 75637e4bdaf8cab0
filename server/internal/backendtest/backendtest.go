// Package backendtest gives tests real backends: every store's tests run on
// SQLite and PostgreSQL, every limiter's in memory and on Redis, each test with
// a database, schema or prefix of its own. A backend that is not there fails
// the test; it is never skipped.
package backendtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // for making schemas
	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// Databases runs test once on each database, as the subtests "sqlite" and
// "postgres", with a fresh schema at this binary's version.
func Databases(t *testing.T, test func(t *testing.T, db *database.DB)) {
	t.Helper()
	DatabaseURLs(t, func(t *testing.T, address string) { test(t, Open(t, address)) })
}

// Must ends the test, a rapid.T's too, at an error.
func Must(t interface {
	Helper()
	Fatal(args ...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Equal fails the test unless got is what it wants; the format says what of.
func Equal[T any](t testing.TB, got, want T, format string, args ...any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", fmt.Sprintf(format, args...), got, want)
	}
}

// Pages reads a list to its end and returns its pages.
func Pages[T any](t testing.TB, list func(token string) (items []T, next string, err error)) (pages [][]T) {
	t.Helper()
	for token, more := "", true; more; more = token != "" {
		items, next, err := list(token)
		Must(t, err)
		pages, token = append(pages, items), next
	}
	return pages
}

// Count runs a query that counts.
func Count(t testing.TB, q database.Queries, query string, args ...any) (n int) {
	t.Helper()
	Must(t, q.Get(t.Context(), &n, query, args...))
	return n
}

// WantCount checks what a query counts.
func WantCount(t testing.TB, q database.Queries, want int, query string, args ...any) {
	t.Helper()
	if n := Count(t, q, query, args...); n != want {
		t.Errorf("%d rows, want %d: %s", n, want, query)
	}
}

// SQLite is a fresh database at this binary's version, for tests that any
// database serves.
func SQLite(t testing.TB) *database.DB {
	t.Helper()
	return Open(t, SQLiteURL(t))
}

// Open opens a database, brings it to this binary's version, and closes it
// after the test.
func Open(t testing.TB, address string) *database.DB {
	t.Helper()
	// Long, because tests of many packages share the machine: these are not
	// about how long a database may take.
	db, err := database.OpenWithin(address, 30*time.Second)
	Must(t, err)
	t.Cleanup(func() { db.Close() })
	_, err = db.MigrateUp(t.Context())
	Must(t, err)
	return db
}

// DatabaseURLs runs test once on each database with the URL of an empty one.
func DatabaseURLs(t *testing.T, test func(t *testing.T, address string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLiteURL(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, PostgreSQLURL(t)) })
}

// SQLiteURL names a file that does not exist yet.
func SQLiteURL(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "test.db")
}

// PostgreSQLURL makes an empty schema, removed after the test.
func PostgreSQLURL(t testing.TB) string {
	t.Helper()
	address := backend(t, "TOLLGATE_TEST_POSTGRES_URL")
	admin, err := sqlx.Connect("postgres", address)
	if err != nil {
		t.Fatalf("connect to the PostgreSQL of TOLLGATE_TEST_POSTGRES_URL: %v", err)
	}
	schema := "test_" + strings.ToLower(rand.Text())
	_, err = admin.Exec("CREATE SCHEMA " + schema)
	Must(t, err)
	t.Cleanup(func() {
		if _, err := admin.Exec("DROP SCHEMA " + schema + " CASCADE"); err != nil {
			t.Error(err)
		}
		admin.Close()
	})
	u, err := url.Parse(address)
	Must(t, err)
	query := u.Query()
	query.Set("search_path", schema)
	u.RawQuery = query.Encode()
	return u.String()
}

// RedisURL is the test Redis; keys of a test go under Prefix.
func RedisURL(t testing.TB) string {
	t.Helper()
	return backend(t, "TOLLGATE_TEST_REDIS_URL")
}

// numbers are those of the test Redis's databases that are free. Number 0 is
// for the tests that use Redis.
var numbers = sync.OnceValue(func() chan int {
	free := make(chan int, 15)
	for n := range cap(free) {
		free <- n + 1
	}
	return free
})

// EmptyRedisURL is an empty database of the test Redis for a program that takes
// no prefix. Only one package's tests may use it, because packages do not know
// which databases others have taken.
func EmptyRedisURL(t testing.TB) string {
	t.Helper()
	u, err := url.Parse(RedisURL(t))
	Must(t, err)
	n := <-numbers()
	t.Cleanup(func() { numbers() <- n })
	u.Path = fmt.Sprintf("/%d", n)
	options, err := redis.ParseURL(u.String())
	Must(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	Must(t, client.FlushDB(t.Context()).Err())
	return u.String()
}

// Redis connects to the test Redis and returns a prefix of the test's own,
// whose keys are removed after it.
func Redis(t testing.TB) (client redis.UniversalClient, prefix string) {
	t.Helper()
	options, err := redis.ParseURL(RedisURL(t))
	Must(t, err)
	client = redis.NewClient(options)
	prefix = "test-" + strings.ToLower(rand.Text()) + ":"
	t.Cleanup(func() {
		ctx := context.Background()
		keys := client.Scan(ctx, 0, prefix+"*", 1000).Iterator()
		for keys.Next(ctx) {
			client.Del(ctx, keys.Val())
		}
		client.Close()
	})
	return client, prefix
}

func backend(t testing.TB, variable string) string {
	t.Helper()
	address := os.Getenv(variable)
	if address == "" {
		t.Fatalf("%s is not set; 'make test' starts the backends and sets it", variable)
	}
	return address
}
