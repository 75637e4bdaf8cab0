package policyfeed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/recordings"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

const watcherID = "0190b1a2-0000-7000-8000-000000000001"

type fixture struct {
	*Service
	t      *testing.T
	db     *database.DB
	log    *changes.Log
	roles  *roles.Service
	limits *limits.Service
	record *recordings.Service
}

// open starts an instance, with a user who holds what watching takes.
func open(t *testing.T, db *database.DB) *fixture {
	t.Helper()
	clk := clock.NewFake(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)).Clock()
	pages := page.NewTokens(bytes.Repeat([]byte("p"), 32))
	log := changes.New(db, changes.Options{Clock: clk})
	f := &fixture{t: t, db: db, log: log, roles: roles.New(db, log, clk, pages)}
	f.limits = limits.New(db, log, f.roles, clk, pages, limits.NewMemory(clk))
	f.record = recordings.New(db, log, f.roles.CheckCounted, clk, pages)
	f.Service = New(log, f.roles, f.limits, f.record)
	log.Follow(f.roles)
	log.Follow(f.limits)
	log.Follow(f.record)
	log.Follow(f.Service)
	backendtest.Must(t, log.Start(t.Context()))
	return f
}

// system is the context of a caller that may do everything.
func (f *fixture) system() context.Context { return caller.System(f.t.Context()) }

func (f *fixture) role(r roles.Role) {
	f.t.Helper()
	_, _, err := f.roles.Create(f.system(), r)
	backendtest.Must(f.t, err)
}

// changed writes changes of something that other services keep.
func (f *fixture) changed(list ...changes.Change) int64 {
	f.t.Helper()
	revision, err := f.log.Write(f.system(), func(_ context.Context, tx *changes.Tx) error {
		for _, c := range list {
			tx.Changed(c.Kind, c.Subject)
		}
		return nil
	})
	backendtest.Must(f.t, err)
	return revision
}

// watcher is the context of a service that watches.
func (f *fixture) watcher() context.Context {
	return caller.With(f.t.Context(), caller.Caller{Principal: &caller.Principal{UserID: watcherID}})
}

// watch returns the messages of a watch; ended gets its error.
func (f *fixture) watch(ctx context.Context, conditions bool) (messages chan Message, ended chan error) {
	messages, ended = make(chan Message), make(chan error, 1)
	go func() {
		ended <- f.Watch(ctx, conditions, func(m Message) error {
			select {
			case messages <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return messages, ended
}

// next is the next message that is not a heartbeat of before.
func next(t *testing.T, messages chan Message, revision int64) Message {
	t.Helper()
	for {
		select {
		case m := <-messages:
			if m.Revision >= revision {
				return m
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing came for revision %d", revision)
		}
	}
}

// TestWatch: a watcher gets all there is, then each change with its revision.
func TestWatch(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		f := open(t, db)
		f.role(roles.Role{Name: "base", Permissions: []string{"a:read"}})
		f.role(roles.Role{Name: "clerk", Permissions: []string{"orders:*"}, Inherits: []string{"base"}, Grants: []roles.Grant{
			{Permission: "b:plain", Effect: roles.Allow},
			{Permission: "c:read", Effect: roles.Allow, Condition: `ip == "192.0.2.1"`},
			{Permission: "orders:delete", Effect: roles.Deny},
			{Permission: "orders:refund", Effect: roles.Deny, Condition: `ip == "192.0.2.1"`},
		}})
		_, _, err := f.limits.Create(f.system(), limits.Limit{Name: "per-tenant", Subject: limits.SubjectCustom, ContextKey: "tenant", Permission: "orders:*", Rate: 5, Burst: 5, Period: time.Second, Lease: true, LeaseTime: 100 * time.Millisecond})
		backendtest.Must(t, err)
		ctx, hangUp := context.WithCancel(f.watcher())
		messages, ended := f.watch(ctx, false)
		first := <-messages
		if !first.Snapshot || first.Partial || first.Revision != f.log.Revision() || len(first.Roles) != 2 {
			t.Errorf("first %+v", first)
		}
		clerk := first.Roles[slices.IndexFunc(first.Roles, func(o roles.Outline) bool { return o.Name == "clerk" })]
		backendtest.Equal(t, fmt.Sprint(clerk), "{clerk [orders:* b:plain] [orders:delete orders:refund] [base] []}", "the role")
		backendtest.Equal(t, fmt.Sprint(first.Limits), "[{per-tenant orders:* custom tenant true}]", "the limits")

		_, revision, err := f.roles.Update(f.system(), "base", roles.Edit{Permissions: []string{"a:write"}})
		backendtest.Must(t, err)
		backendtest.Equal(t, fmt.Sprint(next(t, messages, revision).Roles), "[{base [a:write] [] [] []}]", "a changed role")
		revision, err = f.roles.Delete(f.system(), "clerk")
		backendtest.Must(t, err)
		if m := next(t, messages, revision); !slices.Equal(m.RemovedRoles, []string{"clerk"}) || !m.Everybody {
			t.Errorf("a role that is gone: %+v", m)
		}
		rate := int64(6)
		_, revision, err = f.limits.Update(f.system(), "per-tenant", limits.Edit{Rate: &rate})
		backendtest.Must(t, err)
		if m := next(t, messages, revision); len(m.Limits) != 1 || m.Everybody {
			t.Errorf("a changed limit: %+v", m)
		}
		revision, err = f.limits.Delete(f.system(), "per-tenant")
		backendtest.Must(t, err)
		backendtest.Equal(t, next(t, messages, revision).RemovedLimits, []string{"per-tenant"}, "a limit that is gone")

		m := next(t, messages, f.changed(
			changes.Change{Kind: changes.User, Subject: "u1"}, changes.Change{Kind: changes.Membership, Subject: "u2"},
			changes.Change{Kind: changes.User, Subject: "u1"}, changes.Change{Kind: changes.Session, Subject: "s"},
			changes.Change{Kind: changes.Token, Subject: "t"}, changes.Change{Kind: changes.APIKey, Subject: "k"},
			changes.Change{Kind: changes.Route, Subject: "r"}, changes.Change{Kind: changes.Resource, Subject: "o/1"},
		))
		backendtest.Equal(t, fmt.Sprint(m.Users, m.Sessions, m.Tokens, m.APIKeys, m.Everybody), "[u1 u2] [s] [t] [k] false", "about whom to ask again")
		for _, c := range []changes.Change{
			{Kind: changes.Membership}, {Kind: changes.SigningKey, Subject: "key"}, {Kind: "news", Subject: "x"},
			{Kind: changes.User, Subject: watcherID}, // the audience of the tokens that it accepts
		} {
			if m := next(t, messages, f.changed(c)); !m.Everybody {
				t.Errorf("after %+v not everybody: %+v", c, m)
			}
		}
		hangUp()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestWatchParts: a large policy comes in parts, of which only the last has a
// revision.
func TestWatchParts(t *testing.T) {
	t.Parallel()
	f := open(t, backendtest.SQLite(t))
	want := map[string]bool{}
	for i := range 30 {
		r := roles.Role{Name: fmt.Sprintf("large-%d", i)}
		for j := range 400 {
			r.Permissions = append(r.Permissions, fmt.Sprintf("p%d:%s", j, strings.Repeat("x", 100)))
		}
		f.role(r)
		want[r.Name] = true
	}
	messages, _ := f.watch(f.watcher(), false)
	for n := 0; ; n++ {
		m := <-messages
		if m.Snapshot != (n == 0) || m.Partial != (m.Revision == 0) || len(m.Roles) > 8 {
			t.Fatalf("part %d: snapshot %v, partial %v, revision %d, %d roles", n, m.Snapshot, m.Partial, m.Revision, len(m.Roles))
		}
		for _, r := range m.Roles {
			delete(want, r.Name)
		}
		if !m.Partial {
			break
		}
	}
	if len(want) > 0 {
		t.Errorf("not sent: %v", want)
	}
}

// TestWatchOlderThanSnapshot: what waits for a watcher when its snapshot is read, and
// is older, is not sent after it.
func TestWatchOlderThanSnapshot(t *testing.T) {
	t.Parallel()
	f := open(t, backendtest.SQLite(t))
	ctx := f.watcher()
	f.role(roles.Role{Name: "clerk", Permissions: []string{"a"}})
	late := make(chan struct{})
	var got []Message
	watching, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- f.Watch(watching, false, func(m Message) error {
			if got = append(got, m); m.Snapshot {
				close(late)
				// Sent again, as after a follower's failure: the feed has joined.
				f.feed.Send(Message{Revision: m.Revision, RemovedRoles: []string{"clerk"}})
				f.feed.Send(Message{Revision: m.Revision + 1, RemovedRoles: []string{"other"}})
				return nil
			}
			stop()
			return nil
		})
	}()
	<-late
	<-ended
	if len(got) != 2 || !slices.Equal(got[1].RemovedRoles, []string{"other"}) {
		t.Errorf("got %+v", got)
	}
}

// TestWatchAfterReset: a watcher of an instance that has lost its place in the log
// connects again.
func TestWatchAfterReset(t *testing.T) {
	t.Parallel()
	f := open(t, backendtest.SQLite(t))
	messages, ended := f.watch(f.watcher(), false)
	<-messages
	backendtest.Must(t, f.Reset(t.Context()))
	for {
		select {
		case <-messages:
			continue
		case err := <-ended:
			faulttest.Want(t, err, fault.Unavailable, "WATCHER_TOO_SLOW")
		}
		return
	}
}
