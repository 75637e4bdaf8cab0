package resources

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// instance is one Tollgate as far as this package goes.
type instance struct {
	*Service
	t     testing.TB
	log   *changes.Log
	db    *database.DB
	clock *clock.Fake
}

func start(t testing.TB, db *database.DB) *instance {
	t.Helper()
	fake := clock.NewFake(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	log := changes.New(db, changes.Options{Clock: fake.Clock()})
	s := New(db, log, fake.Clock(), page.NewTokens([]byte(strings.Repeat("k", 32))))
	log.Follow(s)
	backendtest.Must(t, log.Start(t.Context()))
	return &instance{Service: s, t: t, log: log, db: db, clock: fake}
}

// onDatabases runs test in parallel with others, once on each database.
func onDatabases(t *testing.T, test func(t *testing.T, i *instance)) {
	t.Helper()
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) { test(t, start(t, db)) })
}

func (i *instance) system() context.Context { return caller.System(i.t.Context()) }

func (i *instance) put(kind, id string, values map[string]any) (created bool) {
	i.t.Helper()
	_, created, _, err := i.Put(i.system(), kind, id, values)
	backendtest.Must(i.t, err)
	return created
}

// wantAttributes checks what conditions read here.
func (i *instance) wantAttributes(kind, id string, want map[string]any) {
	i.t.Helper()
	got, err := i.Attributes(i.t.Context(), kind, id)
	if err != nil || !reflect.DeepEqual(got, want) {
		i.t.Errorf("%s/%s: %v, %v, want %v", kind, id, got, err, want)
	}
}

func owner(name string) map[string]any { return map[string]any{"owner": name} }

func TestPutGetDelete(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.wantAttributes("doc", "42", nil)
		made, created, revision, err := i.Put(i.system(), "doc", "42", owner("ann"))
		backendtest.Must(t, err)
		if !created || revision == 0 || !made.CreatedAt.Equal(i.clock.Now()) {
			t.Errorf("created %v at %d: %+v", created, revision, made)
		}
		i.wantAttributes("doc", "42", owner("ann"))

		i.clock.Advance(time.Minute)
		made, created, next, err := i.Put(i.system(), "doc", "42", map[string]any{"owner": "bob", "status": "open"})
		backendtest.Must(t, err)
		if created || next <= revision || made.UpdatedAt.Sub(made.CreatedAt) != time.Minute {
			t.Errorf("created %v at %d: %+v", created, next, made)
		}
		i.wantAttributes("doc", "42", map[string]any{"owner": "bob", "status": "open"})
		read, err := i.Get(t.Context(), "doc", "42")
		backendtest.Must(t, err)
		if !reflect.DeepEqual(read, made) {
			t.Errorf("read %+v, want %+v", read, made)
		}

		backendtest.Equal(t, i.put("doc", "42", nil), false, "created when emptied")
		i.wantAttributes("doc", "42", nil)
		backendtest.Must(t, faulttest.Err(i.Get(t.Context(), "doc", "42")))
		backendtest.Must(t, faulttest.Err(i.Delete(i.system(), "doc", "42")))
		i.wantAttributes("doc", "42", nil)
		faulttest.Want(t, faulttest.Err(i.Get(t.Context(), "doc", "42")), fault.NotFound, "RESOURCE_NOT_FOUND")
		faulttest.Want(t, faulttest.Err(i.Delete(i.system(), "doc", "42")), fault.NotFound, "RESOURCE_NOT_FOUND")
		backendtest.Equal(t, i.put("doc", "42", owner("cid")), true, "created again")

		var events []audit.Event
		for _, action := range []audit.Action{audit.ResourcePut, audit.ResourceDelete} {
			list, _, err := audit.NewService(i.db, i.clock.Clock(), i.pages, nil).List(t.Context(), audit.Filter{Action: string(action)}, 250, "")
			backendtest.Must(t, err)
			events = append(events, list...)
		}
		var said []string
		for _, e := range events {
			said = append(said, strings.TrimSpace(fmt.Sprintln(e.Action, e.Resource, e.Details["attributes"], e.Details["created"])))
		}
		slices.Sort(said)
		backendtest.Equal(t, strings.Join(said, " "), `resource.delete resources/doc/42 [] resource.put resources/doc/42 ["owner","status"] `+
			`resource.put resources/doc/42 ["owner","status"] resource.put resources/doc/42 ["owner"] true resource.put resources/doc/42 ["owner"] true`, "events")
		backendtest.WantCount(t, i.db, 0, `SELECT COUNT(*) FROM audit_events WHERE details LIKE '%ann%'`)
	})
}

// Names that no resource can have are refused when written, and are nothing when
// read: they do not reach the database.
func TestNames(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		for _, c := range []struct{ kind, id, field string }{
			{"", "a", "type"}, {"A", "a", "type"}, {"a/b", "a", "type"}, {"a:b", "a", "type"}, {"a\x00", "a", "type"}, {strings.Repeat("a", 65), "a", "type"},
			{"a", "", "id"}, {"a", "\x00", "id"}, {"a", "b\n", "id"}, {"a", "\u0085", "id"}, {"a", "\xff", "id"}, {"a", strings.Repeat("ü", 96), "id"},
		} {
			_, _, _, err := i.Put(i.system(), c.kind, c.id, nil)
			faulttest.WantField(t, err, c.field)
			faulttest.Want(t, faulttest.Err(i.Get(t.Context(), c.kind, c.id)), fault.NotFound, "RESOURCE_NOT_FOUND")
			faulttest.Want(t, faulttest.Err(i.Delete(i.system(), c.kind, c.id)), fault.NotFound, "RESOURCE_NOT_FOUND")
			i.wantAttributes(c.kind, c.id, nil)
		}
		faulttest.WantField(t, faulttest.Err(i.List(t.Context(), "A", 0, "")), "type")
		faulttest.WantField(t, faulttest.Err(i.Put(i.system(), "a", "b", map[string]any{"": 1.0})), "attributes")
		for _, id := range []string{"a/b", "/", "..", "a//b", "urn:x:1", "100%", "ü", "a b", `"'\`, strings.Repeat("ü", 95)} {
			i.put(strings.Repeat("a", 64), id, owner(id))
			i.wantAttributes(strings.Repeat("a", 64), id, owner(id))
		}
	})
}

func TestList(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		var all []string
		for _, name := range []string{"a/1", "a/10", "a/2", "a/Z", "a/z/y", "b/0", "b/ü", "b-c/1"} {
			k := keyOf(name)
			i.put(k.kind, k.id, owner(name))
			all = append(all, name)
		}
		list := func(kind string, size int32) (names []string) {
			for _, resources := range backendtest.Pages(t, func(token string) ([]Resource, string, error) { return i.List(t.Context(), kind, size, token) }) {
				for _, r := range resources {
					backendtest.Equal(t, fmt.Sprint(r.Attributes["owner"]), r.Name(), "owner")
					names = append(names, r.Name())
				}
			}
			return names
		}
		for _, size := range []int32{1, 2, 3, 50} {
			if got := list("", size); !reflect.DeepEqual(got, all) {
				t.Errorf("by %d: %q, want %q", size, got, all)
			}
			if got := list("b", size); !reflect.DeepEqual(got, all[5:7]) {
				t.Errorf("b by %d: %q", size, got)
			}
		}
		backendtest.Equal(t, len(list("c", 1)), 0, "resources of a type that there is not")
		_, next, err := i.List(t.Context(), "a", 1, "")
		backendtest.Must(t, err)
		faulttest.WantField(t, faulttest.Err(i.List(t.Context(), "b", 1, next)), "pageToken")
	})
}

// What one instance writes is in force on another after it has read the log, also
// what the other had read before: that there was nothing, and that there was
// something else.
func TestFollow(t *testing.T) {
	onDatabases(t, func(t *testing.T, here *instance) {
		there := start(t, here.db)
		sync := func() {
			t.Helper()
			backendtest.Must(t, there.log.Sync(t.Context()))
		}
		for _, id := range []string{"42", "a/b", "a//c/"} {
			there.wantAttributes("doc", id, nil)
			here.put("doc", id, owner("ann"))
			here.wantAttributes("doc", id, owner("ann"))
			there.wantAttributes("doc", id, nil) // kept
			sync()
			there.wantAttributes("doc", id, owner("ann"))
			here.put("doc", id, owner("bob"))
			here.wantAttributes("doc", id, owner("bob"))
			sync()
			there.wantAttributes("doc", id, owner("bob"))
			backendtest.Must(t, faulttest.Err(here.Delete(here.system(), "doc", id)))
			here.wantAttributes("doc", id, nil)
			sync()
			there.wantAttributes("doc", id, nil)
		}
		here.put("doc", "42", owner("ann"))
		backendtest.Must(t, there.Reset(t.Context()))
		there.wantAttributes("doc", "42", owner("ann"))
	})
}

// Of many puts at once one creates, and the last one's attributes stay.
func TestPutsAtOnce(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		var wait sync.WaitGroup
		var mu sync.Mutex
		created, last := 0, int64(0)
		var stays map[string]any
		for n := range 8 {
			wait.Go(func() {
				values := owner(fmt.Sprint(n))
				_, is, revision, err := i.Put(i.system(), "doc", "42", values)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if is {
					created++
				}
				if revision > last {
					last, stays = revision, values
				}
			})
		}
		wait.Wait()
		backendtest.Equal(t, created, 1, "puts that created")
		i.wantAttributes("doc", "42", stays)
	})
}

// What is not there is remembered as well; what only another program can have
// written is an error, which refuses, and can be replaced.
func TestAttributesAreKept(t *testing.T) {
	onDatabases(t, func(t *testing.T, i *instance) {
		i.wantAttributes("doc", "1", nil)
		i.put("doc", "2", owner("ann"))
		i.wantAttributes("doc", "2", owner("ann"))
		backendtest.Must(t, faulttest.Err(i.db.Exec(t.Context(), `UPDATE resources SET attributes = 'rubbish'`)))
		backendtest.Must(t, faulttest.Err(i.db.Exec(t.Context(),
			`INSERT INTO resources (type, id, attributes, created_at, updated_at) VALUES ('doc', '1', '{"a":1}', 0, 0)`)))
		i.wantAttributes("doc", "1", nil)
		i.wantAttributes("doc", "2", owner("ann"))
		backendtest.Must(t, i.Reset(t.Context()))
		i.wantAttributes("doc", "1", map[string]any{"a": 1.0})
		if got, err := i.Attributes(t.Context(), "doc", "2"); err == nil || errors.Is(err, database.ErrNoRows) {
			t.Errorf("attributes of rubbish: %v, %v", got, err)
		}
		backendtest.Equal(t, i.put("doc", "2", owner("bob")), false, "created")
		i.wantAttributes("doc", "2", owner("bob"))
	})
}
