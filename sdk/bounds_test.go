package tollgate

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/jose"
)

func revoking(sessions ...string) *tollgatev1.WatchRevocationsResponse {
	return &tollgatev1.WatchRevocationsResponse{SessionIds: sessions}
}

// TestFeedForgets: what is revoked is remembered as long as its tokens live.
func TestFeedForgets(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	f := newFeed(&Client{config: config{now: func() time.Time { return now }}}, nil, time.Hour, 15*time.Minute)
	minutes := int((15*time.Minute + jose.ClockSkew) / time.Minute)
	take := func(message *tollgatev1.WatchRevocationsResponse) {
		t.Helper()
		if err := f.take(message, now); err != nil {
			t.Fatal(err)
		}
	}
	take(&tollgatev1.WatchRevocationsResponse{Snapshot: true, SessionIds: []string{"first"}})
	for range minutes { // to the minute in which the last of its tokens ends
		if reason, _, ok := f.look(&claims{sessionID: "first"}, now); !ok || reason != ReasonCredentialRevoked {
			t.Fatalf("%s after %s", reason, now.Sub(f.rotated))
		}
		now = now.Add(time.Minute)
		take(revoking(now.String()))
	}
	for range 100 {
		now = now.Add(time.Minute)
		take(revoking(now.String()))
		if n := f.revoked.len(); n > 2*minutes+2 {
			t.Fatalf("%d sessions are remembered", n)
		}
	}
	if f.revoked.has(revocation{ofSession, "first"}) {
		t.Error("the first is remembered for ever")
	}
	take(&tollgatev1.WatchRevocationsResponse{Snapshot: true, SessionIds: []string{"last"}})
	if n := f.revoked.len(); n != 1 {
		t.Errorf("%d sessions after a new beginning", n)
	}
}

// TestFeedOfLaggingInstance: its snapshot replaces nothing that is newer.
func TestFeedOfLaggingInstance(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	f := newFeed(&Client{config: config{now: time.Now}}, nil, time.Hour, time.Hour)
	for _, message := range []*tollgatev1.WatchRevocationsResponse{
		{Snapshot: true, Revision: 7},
		{Revision: 9, SessionIds: []string{"s-1"}, UserIds: []string{"u-1"}},
		{Snapshot: true, Revision: 8},
	} {
		if err := f.take(message, now); err != nil {
			t.Fatal(err)
		}
	}
	for want, c := range map[Reason]claims{
		ReasonCredentialRevoked: {sessionID: "s-1"}, ReasonUserDisabled: {sessionID: "s-2", userID: "u-1"},
	} {
		if reason, revision, ok := f.look(&c, now); !ok || reason != want || revision != 9 {
			t.Errorf("%s at revision %d, want %s", reason, revision, want)
		}
	}
	if err := f.take(&tollgatev1.WatchRevocationsResponse{Snapshot: true, Revision: 9}, now); err != nil {
		t.Fatal(err)
	}
	if f.revoked.has(revocation{ofUser, "u-1"}) {
		t.Error("a new beginning does not replace what was known")
	}
}

// TestFeedIsBounded: with more than can be remembered, sessions or removed keys,
// the feed counts as lost.
func TestFeedIsBounded(t *testing.T) {
	t.Parallel()
	type message = tollgatev1.WatchRevocationsResponse
	for name, test := range map[string]struct {
		most   int
		revoke func(ids ...string) *message
	}{
		"sessions": {maxRevoked, func(ids ...string) *message { return &message{Snapshot: true, SessionIds: ids} }},
		"keys":     {maxRemoved, func(ids ...string) *message { return &message{Snapshot: true, SigningKeyIds: ids} }},
	} {
		now, client := time.Unix(1_800_000_000, 0), &Client{config: config{now: time.Now}}
		f := newFeed(client, newKeyring(t.Context(), client, time.Hour), time.Hour, time.Hour)
		ids := make([]string, test.most)
		for i := range ids {
			ids[i] = strconv.Itoa(i)
		}
		for range 2 { // the same ones again are no more
			if err := f.take(test.revoke(ids...), now); err != nil {
				t.Fatal(name, err)
			}
		}
		if _, _, ok := f.look(&claims{sessionID: "x"}, now); !ok {
			t.Errorf("%s: the feed is lost", name)
		}
		more := test.revoke("one more")
		more.Snapshot = false
		if err := f.take(more, now); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, _, ok := f.look(&claims{sessionID: "x"}, now); ok {
			t.Errorf("%s: the feed is trusted, although it is incomplete", name)
		}
	}
}

func TestTokenCacheIsBounded(t *testing.T) {
	t.Parallel()
	r := newTokenCache()
	used := tokenHash{0, 1, 2, 3}
	r.add(used, &claims{userID: "used"})
	for i := range 4 * maxTokens {
		r.add(tokenHash{byte(i), byte(i >> 8), byte(i >> 16), 4}, &claims{})
		if i%1000 == 0 && r.get(used) == nil {
			t.Fatalf("a token that is used was forgotten after %d others", i)
		}
	}
	n := 0
	for i := range r.shards {
		n += r.shards[i].tokens.len()
	}
	if n > maxTokens {
		t.Errorf("%d tokens are remembered", n)
	}
}

func TestReportsAreBounded(t *testing.T) {
	t.Parallel()
	r, now := newReports(), time.Unix(1_800_000_000, 0)
	for i := range 3 * maxAddresses {
		r.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := r.addresses.len(); n > maxAddresses {
		t.Errorf("%d addresses are remembered", n)
	}
}
