package routes

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

func TestCreateUpdateDelete(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		made := i.create(Route{
			Name: "order", Description: "One order.", Host: "Shop.Example.", Methods: []string{"POST", "GET", "GET"}, Path: "/orders/{id}/",
			Permission: "orders:read", Resource: "orders/{id}", Cost: 2, Upstream: "http://Orders:8080/", Context: map[string]string{"order": "{id}"},
		})
		want := Route{
			Name: "order", Description: "One order.", Host: "shop.example", Methods: []string{"GET", "POST"}, Path: "/orders/{id}",
			Permission: "orders:read", Resource: "orders/{id}", Cost: 2, Upstream: "http://orders:8080", Context: map[string]string{"order": "{id}"},
			CreatedAt: i.clock.Now(), UpdatedAt: i.clock.Now(),
		}
		backendtest.Equal(t, made, want, "made")
		got, err := i.Get(i.system(), "order")
		i.must(err)
		backendtest.Equal(t, got, want, "read after it was made")
		backendtest.Equal(t, i.has("GET", "shop.example", "/orders/7"), "order", "route at once")
		faulttest.Want(t, faulttest.Err(i.Create(i.system(), Route{Name: "order", Path: "/x", Public: true})), fault.Exists, "ROUTE_EXISTS")

		i.clock.Advance(time.Minute)
		edited, revision, err := i.Update(i.system(), "order", Edit{
			Host: new(""), ClearMethods: true, Path: new("/orders/{n}"), Permission: new(""), Authenticated: new(true),
			Resource: new("orders/{n}"), Cost: new(int64(0)), Upstream: new(""), ClearContext: true,
		})
		i.must(err)
		want = Route{
			Name: "order", Description: "One order.", Path: "/orders/{n}", Authenticated: true, Resource: "orders/{n}",
			CreatedAt: want.CreatedAt, UpdatedAt: want.CreatedAt.Add(time.Minute),
		}
		backendtest.Equal(t, fmt.Sprint(edited), fmt.Sprint(want), "edited")
		if revision <= 1 || i.has("GET", "shop.example", "/orders/7") != "order" || i.has("PUT", "", "/orders/7") != "order" {
			t.Errorf("the route as edited is not in force at %d", revision)
		}
		faulttest.Want(t, faulttest.Err(i.Update(i.system(), "order", Edit{Methods: []string{}, Context: map[string]string{}})), fault.Invalid, "NOTHING_TO_UPDATE")
		faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "order", Edit{Methods: []string{"GET"}, ClearMethods: true})), "clearMethods")
		faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "order", Edit{Context: map[string]string{"a": "b"}, ClearContext: true})), "clearContext")
		faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "order", Edit{Path: new("/orders/{other}")})), "resource")
		faulttest.WantField(t, faulttest.Err(i.Update(i.system(), "order", Edit{Authenticated: new(false)})), "permission")

		i.must(faulttest.Err(i.Delete(i.system(), "order")))
		backendtest.Equal(t, i.has("GET", "", "/orders/7"), "-", "route after its removal")
		for what, err := range map[string]error{
			"get":       faulttest.Err(i.Get(i.system(), "order")),
			"update":    faulttest.Err(i.Update(i.system(), "order", Edit{Cost: new(int64(1))})),
			"delete":    faulttest.Err(i.Delete(i.system(), "order")),
			"get a NUL": faulttest.Err(i.Get(i.system(), "\x00")),
		} {
			if f := fault.From(err); f == nil || f.Kind != fault.NotFound || f.Reason != "ROUTE_NOT_FOUND" {
				t.Errorf("%s after the removal: %v", what, err)
			}
		}
		i.wantEvents()
	})
}

// wantEvents checks what TestCreateUpdateDelete leaves in the audit log.
func (i *instance) wantEvents() {
	i.t.Helper()
	var events []struct {
		Action  string `db:"action"`
		Details string `db:"details"`
	}
	i.must(i.db.Select(i.t.Context(), &events, `SELECT action, details FROM audit_events WHERE resource = 'routes/order' ORDER BY position`))
	if len(events) != 3 || events[0].Action != "route.create" || events[1].Action != "route.update" || events[2].Action != "route.delete" {
		i.t.Fatalf("audit: %+v", events)
	}
	for _, part := range []string{`"needs":"permission"`, `"permission":"orders:read"`, `"methods":"GET,POST"`, `"upstream":"http://orders:8080"`, `"cost":"2"`} {
		if !strings.Contains(strings.ReplaceAll(events[0].Details, `": "`, `":"`), part) {
			i.t.Errorf("%s does not say %s", events[0].Details, part)
		}
	}
	for _, part := range []string{`"needs":"credential"`, `"needs_before":"permission"`, `"permission_before":"orders:read"`, `"host_before":"shop.example"`} {
		if !strings.Contains(strings.ReplaceAll(events[1].Details, `": "`, `":"`), part) {
			i.t.Errorf("%s does not say %s", events[1].Details, part)
		}
	}
}

func TestList(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		var want []string
		for n := range 7 {
			want = append(want, i.create(Route{Name: fmt.Sprintf("route-%d", n), Path: fmt.Sprintf("/%d", n)}).Name)
		}
		pages := backendtest.Pages(t, func(token string) ([]Route, string, error) { return i.List(i.system(), 3, token) })
		got := protoconv.List(slices.Concat(pages...), func(r Route) string { return r.Name })
		if len(pages) != 3 || !slices.Equal(got, want) {
			t.Errorf("routes on %d pages are %q, want %q on 3", len(pages), got, want)
		}
		faulttest.WantField(t, faulttest.Err(i.List(i.system(), 3, "forged")), "pageToken")
	})
}

func TestConflictsAreRefused(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.create(Route{Name: "one", Path: "/orders/{id}", Methods: []string{"GET"}})
		f := faulttest.Want(t, faulttest.Err(i.Create(i.system(), Route{
			Name: "two", Path: "/orders/{other}", Methods: []string{"PUT", "GET"}, Public: true,
		})), fault.Precondition, "ROUTE_CONFLICT")
		if !strings.Contains(f.Message, `"one"`) {
			t.Errorf("the message does not name the other route: %s", f.Message)
		}
		i.create(Route{Name: "two", Path: "/orders/{other}", Methods: []string{"PUT"}})
		i.create(Route{Name: "rest", Path: "/orders/{id}"})
		faulttest.Want(t, faulttest.Err(i.Update(i.system(), "two", Edit{Methods: []string{"GET"}})), fault.Precondition, "ROUTE_CONFLICT")
		faulttest.Want(t, faulttest.Err(i.Update(i.system(), "two", Edit{ClearMethods: true})), fault.Precondition, "ROUTE_CONFLICT")
		i.must(faulttest.Err(i.Update(i.system(), "two", Edit{Description: new("Itself is no other.")})))
		i.must(faulttest.Err(i.Delete(i.system(), "one")))
		i.must(faulttest.Err(i.Update(i.system(), "two", Edit{Methods: []string{"GET"}})))
		backendtest.Equal(t, i.has("PUT", "", "/orders/7"), "rest", "route of a method that was given up")
	})
}

// Of many that create, or move to, what conflicts, at once and on two instances,
// one does.
func TestConflictingWritersAtOnce(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		here, there := start(t, db), start(t, db)
		for round := range 5 {
			var made sync.Map
			var wg sync.WaitGroup
			for n := range 12 {
				i, name := []*instance{here, there}[n%2], fmt.Sprintf("r%d-%d", round, n)
				moves := n%3 == 0
				if moves {
					here.create(Route{Name: name, Path: "/elsewhere/" + name})
				}
				wg.Go(func() {
					path := fmt.Sprintf("/at-once/%d/{p%d}", round, n)
					var err error
					if moves {
						_, _, err = i.Update(i.system(), name, Edit{Path: &path})
					} else {
						_, _, err = i.Create(i.system(), Route{Name: name, Path: path, Public: true})
					}
					switch f := fault.From(err); {
					case err == nil:
						made.Store(name, true)
					case f.Reason != "ROUTE_CONFLICT" && f.Kind != fault.Unavailable: // a busy machine's database
						t.Error(err)
					}
				})
			}
			wg.Wait()
			n := 0
			made.Range(func(any, any) bool { n++; return true })
			if n != 1 {
				t.Errorf("%d routes take the same requests", n)
			}
		}
		here.must(here.Reset(t.Context()))
		backendtest.Must(t, faulttest.Err(here.Table()))
	})
}

func TestBounds(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.bulk(maxRoutes - 2)
		var wg sync.WaitGroup
		for n := range 6 {
			wg.Go(func() {
				_, _, err := i.Create(i.system(), Route{Name: fmt.Sprintf("last%d", n), Path: fmt.Sprintf("/last/%d", n), Public: true})
				if f := fault.From(err); err != nil && f.Reason != "TOO_MANY_ROUTES" && f.Kind != fault.Unavailable {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := backendtest.Count(t, i.db, `SELECT COUNT(*) FROM routes`)
		for ; n < maxRoutes; n++ {
			i.create(Route{Name: fmt.Sprintf("more%d", n), Path: fmt.Sprintf("/more/%d", n)})
		}
		f := faulttest.Want(t, faulttest.Err(i.Create(i.system(), Route{Name: "over", Path: "/over", Public: true})), fault.Precondition, "TOO_MANY_ROUTES")
		if !strings.Contains(f.Message, "10000") {
			t.Errorf("message is %q, which does not say the bound", f.Message)
		}
		i.must(faulttest.Err(i.Update(i.system(), "bulk1", Edit{Description: new("Changed.")})))

		// Few routes, but long ones.
		i.must(faulttest.Err(i.db.Exec(t.Context(), `UPDATE routes SET context = $1 WHERE name <> 'bulk1'`, `{"a":"`+strings.Repeat("a", 830)+`"}`)))
		i.must(faulttest.Err(i.db.Exec(t.Context(), `DELETE FROM routes WHERE name = 'bulk2'`)))
		long := Route{Name: "long", Path: "/long", Public: true, Context: map[string]string{"a": strings.Repeat("a", 256)}}
		faulttest.Want(t, faulttest.Err(i.Create(i.system(), long)), fault.Precondition, "TOO_MANY_ROUTES")
		faulttest.Want(t, faulttest.Err(i.Update(i.system(), "bulk1", Edit{Description: new(strings.Repeat("d", 512))})), fault.Precondition, "TOO_MANY_ROUTES")
		i.must(faulttest.Err(i.Update(i.system(), "bulk3", Edit{ClearContext: true})))
	})
}
