package main_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	_ "github.com/lib/pq"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

// TestChaosAnonymousFlood checks that a flood of calls without a valid
// credential hardly grows the database, and that the audit log counts every one
// of them, also when the server is stopped during the flood.
func TestChaosAnonymousFlood(t *testing.T) {
	t.Parallel()
	forms := map[string]string{
		"/v1/oauth2/token":      "grant_type=refresh_token&refresh_token=tgr_" + strings.Repeat("x", 43),
		"/v1/oauth2/revoke":     "token=tgr_" + strings.Repeat("x", 43),
		"/v1/oauth2/introspect": "token=x&client_id=x&client_secret=x",
	}
	kinds := map[string]func(c apitest.Client) (apitest.Answer, error){
		"no credential": func(c apitest.Client) (apitest.Answer, error) {
			return c.Try(context.Background(), "GET", "/v1/users", nil)
		},
		"a bad key": func(c apitest.Client) (apitest.Answer, error) {
			return c.As("tg_bad").Try(context.Background(), "POST", "/v1/auth/verify", object{"accessToken": "x"})
		},
		"a bad refresh token": func(c apitest.Client) (apitest.Answer, error) {
			return c.Try(context.Background(), "POST", "/v1/auth/refresh", object{"refreshToken": "tgr_" + strings.Repeat("x", 43)})
		},
		"an empty sign-in": func(c apitest.Client) (apitest.Answer, error) {
			return c.Try(context.Background(), "POST", "/v1/auth/login", object{})
		},
	}
	for path, form := range forms {
		kinds[path] = func(c apitest.Client) (apitest.Answer, error) {
			return c.Try(context.Background(), "POST", path, form, "Content-Type", "application/x-www-form-urlencoded")
		}
	}
	for backend, open := range map[string]func(t *testing.T, dir string) (env []string, size func() int64){
		"sqlite": sqliteSize, "postgres": postgresSize,
	} {
		t.Run(backend, func(t *testing.T) {
			dir := t.TempDir()
			env, size := open(t, dir)
			s := serve(t, dir, env...)
			anybody, total := s.As(""), 0
			for what, call := range kinds {
				before, calls := size(), often(500, 8000)
				var mu sync.Mutex
				statuses := map[int]int{}
				shared(8, calls, func(int) {
					a, err := call(anybody)
					mu.Lock()
					defer mu.Unlock()
					statuses[a.Status]++
					if err != nil || a.Status < 400 && what != "/v1/oauth2/revoke" {
						t.Errorf("%s: %d %s, %v", what, a.Status, a.Raw, err)
					}
				})
				// What is not refused, and what is malformed, is no refusal.
				total += calls - statuses[http.StatusOK] - statuses[http.StatusBadRequest]*boolean(what == "an empty sign-in")
				promise(t, fmt.Sprintf("a refused anonymous call costs under 200 bytes of database in a flood (%s, %s)", what, backend),
					(size()-before)/int64(calls) < 200, "%d bytes a call of %d, answered %v", (size()-before)/int64(calls), calls, statuses)
			}
			s.stop(t)
			s = serve(t, dir, env...)
			s.Token = s.Login(t, "admin", adminPassword).Str("accessToken")
			recorded := 0
			events := append(s.Events(t, "outcome=OUTCOME_DENIED"), s.Events(t, "outcome=OUTCOME_FAILURE")...)
			for _, e := range events {
				n := 1
				if counted, ok := apitest.Dig(e, "details", "refused").(string); ok {
					n, _ = strconv.Atoi(counted)
				}
				recorded += n
			}
			promise(t, "every refused anonymous call of a flood is on record, "+backend, recorded == total,
				"%d refused, %d on record in %d events", total, recorded, len(events))
		})
	}
}

func boolean(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// sqliteSize counts pages, not the write-ahead log, which SQLite uses again.
func sqliteSize(t *testing.T, dir string) ([]string, func() int64) {
	return []string{"TOLLGATE_ADMIN_PASSWORD=" + adminPassword}, func() (sum int64) {
		db, err := database.Open("sqlite:" + filepath.Join(dir, "tollgate.db"))
		backendtest.Must(t, err)
		defer db.Close()
		backendtest.Must(t, db.Get(t.Context(), &sum, `SELECT p.page_count * s.page_size FROM pragma_page_count AS p, pragma_page_size AS s`))
		return sum
	}
}

func postgresSize(t *testing.T, _ string) ([]string, func() int64) {
	address := backendtest.PostgreSQLURL(t)
	db, err := sql.Open("postgres", address)
	backendtest.Must(t, err)
	t.Cleanup(func() { db.Close() })
	return settings(address, ""), func() (sum int64) {
		err := db.QueryRowContext(t.Context(), `SELECT SUM(pg_total_relation_size(oid)) FROM pg_class
			WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'`).Scan(&sum)
		backendtest.Must(t, err)
		return sum
	}
}
