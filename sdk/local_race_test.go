package tollgate_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
	"google.golang.org/protobuf/types/known/durationpb"
)

// scripted answers each Authorize with alice, at a revision that the test sets.
type scripted struct {
	revision atomic.Int64
	asked    atomic.Int64
	before   func() // what happens before the answer; nil: nothing
}

func (s *scripted) answer(*tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
	s.asked.Add(1)
	revision := s.revision.Load()
	if s.before != nil {
		s.before()
	}
	return &tollgatev1.AuthorizeResponse{
		Allowed: true, Reason: tollgatev1.Reason_REASON_OK, Principal: alice, Revision: revision, GoodFor: durationpb.New(time.Minute),
	}, nil
}

var aliceReads = tollgate.AuthorizeRequest{UserID: alicesUser, Permission: "orders:read"}

// TestLocalLaggingInstance: the answer of an instance that has not heard of the
// latest change about a caller is not kept, nor is one used before the policy is as
// new as it.
func TestLocalLaggingInstance(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *localFixture) int64{
		"user":      func(f *localFixture) int64 { f.SetUser(sdktest.User{Name: "alice"}); return f.KeepAlive() - 1 },
		"session":   func(f *localFixture) int64 { return f.Revoke("s-1") },
		"everybody": func(f *localFixture) int64 { return f.RemoveKey() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{}
			f := newLocal(t, tollgate.LocalConfig{}, answering(s.answer))
			wantAsked := func(what string, revision, want int64) {
				t.Helper()
				s.revision.Store(revision)
				before := s.asked.Load()
				for range 2 {
					f.want(aliceReads, tollgate.ReasonOK, here)
				}
				if n := s.asked.Load() - before; n != want {
					t.Errorf("%s: asked %d times of 2, want %d", what, n, want)
				}
			}
			changed := change(f)
			f.heard(f.KeepAlive())
			wantAsked("an answer of before the change", changed-1, 2)
			wantAsked("an answer of after it", changed, 1)
			f.SetUser(sdktest.User{Name: "bob"})
			f.heard(f.KeepAlive())
			wantAsked("after a change about another", changed, 0)
			changed = change(f)
			f.heard(f.KeepAlive())
			wantAsked("an answer that is newer than the policy", changed+10, 2)
			for range 10 {
				f.heard(f.KeepAlive())
			}
			wantAsked("when the policy is as new", 0, 0)
		})
	}
}

// TestLocalFeedGap: the answer to a call that began before the stream did is not kept:
// what was told between the streams is not known.
func TestLocalFeedGap(t *testing.T) {
	t.Parallel()
	s := &scripted{}
	f := newLocal(t, tollgate.LocalConfig{}, answering(s.answer))
	s.revision.Store(f.KeepAlive() + 1) // new enough for the next stream, too
	s.before = sync.OnceFunc(func() {
		f.reconnect(f.next.RoundTrip, func() {})
		f.heard(f.KeepAlive())
	})
	f.want(aliceReads, tollgate.ReasonOK, here)
	f.want(aliceReads, tollgate.ReasonOK, here)
	if n := s.asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

// TestLocalBound: no more principals are kept than were asked for, and each of those
// that are is found.
func TestLocalBound(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{MaxPrincipals: 100})
	keys := make([]string, 500)
	for i := range keys {
		keys[i] = f.APIKey("alice")
		f.want(tollgate.AuthorizeRequest{Credential: keys[i], Permission: "orders:read"}, tollgate.ReasonOK, there)
	}
	before := len(f.Decisions())
	for _, key := range slices.Backward(keys) { // newest first
		if _, err := f.client.Authorize(t.Context(), tollgate.AuthorizeRequest{Credential: key, Permission: "orders:read"}); err != nil {
			t.Fatal(err)
		}
	}
	if kept := len(keys) - (len(f.Decisions()) - before); kept > 100 || kept < 30 {
		t.Errorf("%d are kept", kept)
	}
	f.SetUser(sdktest.User{Name: "alice", Disabled: true})
	f.heard(f.KeepAlive())
	for _, key := range keys {
		f.want(tollgate.AuthorizeRequest{Credential: key, Permission: "orders:read"}, tollgate.ReasonUserDisabled, there)
	}
}

// TestLocalDecisionChanged: what a caller writes into a decision, the next does not
// get, and decides nothing.
func TestLocalDecisionChanged(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{})
	r := tollgate.AuthorizeRequest{Credential: f.APIKey("alice", "orders:read"), Permission: "orders:read"}
	f.want(r, tollgate.ReasonOK, there).Principal.Roles[0] = "other"
	for name, change := range map[string]func(d *tollgate.Decision){
		"allowed":   func(d *tollgate.Decision) { d.Allowed = false },
		"reason":    func(d *tollgate.Decision) { d.Reason = "OTHER" },
		"limits":    func(d *tollgate.Decision) { d.Limits = make([]tollgate.LimitStatus, 1) },
		"principal": func(d *tollgate.Decision) { d.Principal = nil },
		"user":      func(d *tollgate.Decision) { d.Principal.UserID = "user-bob" },
		"service":   func(d *tollgate.Decision) { d.Principal.Service = true },
		"roles":     func(d *tollgate.Decision) { d.Principal.Roles[0] = "administrator" },
		"scopes":    func(d *tollgate.Decision) { d.Principal.Scopes[0] = "*" },
		"time":      func(d *tollgate.Decision) { d.Principal.ExpiresAt = time.Unix(1, 0) },
	} {
		change(f.want(r, tollgate.ReasonOK, here))
		p := f.want(r, tollgate.ReasonOK, here).Principal
		if p == nil || p.UserID != alicesUser || p.Service || !slices.Equal(p.Roles, []string{"clerk"}) || !slices.Equal(p.Scopes, []string{"orders:read"}) || !p.ExpiresAt.IsZero() {
			t.Errorf("%s: then %+v", name, p)
		}
	}
	r.Permission = "orders:write"
	f.want(r, tollgate.ReasonScopeMissing, there)
}

// TestLocalChanges: callers and changes at once, for the race detector; a role that
// is gone is gone when the client has heard of it.
func TestLocalChanges(t *testing.T) {
	t.Parallel()
	f := newLocal(t, tollgate.LocalConfig{MaxPrincipals: 100})
	done := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if _, err := f.client.Authorize(t.Context(), aliceReads); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for i := range 30 {
		f.SetRole("clerk", "bills:*")
		f.SetUser(sdktest.User{Name: "alice", Roles: []string{"clerk"}})
		f.heard(f.KeepAlive())
		if d, err := f.client.Authorize(t.Context(), aliceReads); err != nil || d.Allowed {
			t.Fatalf("round %d: %+v, %v", i, d, err)
		}
		f.SetRole("clerk", "orders:*")
		f.heard(f.KeepAlive())
		if d, err := f.client.Authorize(t.Context(), aliceReads); err != nil || !d.Allowed {
			t.Fatalf("round %d: %+v, %v", i, d, err)
		}
	}
	close(done)
	running.Wait()
}

// BenchmarkAuthorizeLocal is a decision in this process, by an access token.
func BenchmarkAuthorizeLocal(b *testing.B) {
	f := newLocal(b, tollgate.LocalConfig{})
	for i := range 100 {
		f.SetLimit(sdktest.Limit{Name: fmt.Sprint("l", i), Permission: fmt.Sprintf("others%d:*", i)})
	}
	f.SetUser(sdktest.User{Name: "alice", Roles: []string{"a", "b", "clerk"}})
	f.heard(f.KeepAlive())
	real := f.Server.Client(tollgate.WithLocalDecisions(tollgate.LocalConfig{FeedBound: time.Hour}), tollgate.WithClock(time.Now),
		tollgate.WithHTTPClient(&http.Client{Transport: f.next}))
	defer real.Close()
	must(b, real.WaitPolicy(b.Context(), 0))
	token := f.Token("alice")
	for name, r := range map[string]tollgate.AuthorizeRequest{
		"token": {Credential: token, Permission: "orders:read"},
		"key":   {Credential: f.APIKey("alice", "orders:*"), Permission: "orders:read"},
		"any":   {Credential: token, AnyOf: []string{"bills:read", "orders:read"}},
	} {
		b.Run(name, func(b *testing.B) {
			if _, err := real.Authorize(b.Context(), r); err != nil {
				b.Fatal(err)
			}
			before, ctx := len(f.Decisions()), b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if d, err := real.Authorize(ctx, r); err != nil || !d.Allowed {
					b.Fatal(d, err)
				}
			}
			if n := len(f.Decisions()); n != before {
				b.Fatalf("asked %d times", n-before)
			}
		})
	}
}
