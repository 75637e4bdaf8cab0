package audit

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
	"golang.org/x/mod/sumdb/tlog"
)

const testOrigin = "tollgate.example/audit"

// newTree makes a tree on the service's database and makes the service grow it, when it
// is told to.
func newTree(t testing.TB, s *Service) *tree.Tree {
	t.Helper()
	master, err := seal.New(make([]byte, seal.KeySize))
	backendtest.Must(t, err)
	grown := tree.New(s.db, s.clock, master, testOrigin)
	backendtest.Must(t, grown.Ensure(t.Context()))
	s.GrowTree(grown)
	return grown
}

// onTrees is onDatabases with a tree.
func onTrees(t *testing.T, test func(t *testing.T, s *Service, fake *clock.Fake)) {
	t.Helper()
	onDatabases(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		newTree(t, s)
		test(t, s, fake)
	})
}

// grow puts what was committed into the tree, now.
func grow(t testing.TB, s *Service, fake *clock.Fake) {
	t.Helper()
	settle(t, s)
	fake.Advance(signEvery)
	backendtest.Must(t, s.Sequence(t.Context()))
}

// settle waits until every transaction that is older than the log's events has ended:
// other tests share the server.
func settle(t testing.TB, s *Service) {
	t.Helper()
	if s.db.Dialect == database.SQLite {
		return
	}
	for began := time.Now(); time.Since(began) < 20*time.Second; {
		var open int
		backendtest.Must(t, s.db.Get(t.Context(), &open, `SELECT COUNT(*) FROM audit_events
			WHERE writer >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint AND writer < pg_snapshot_xmax(pg_current_snapshot())::text::bigint`))
		if open == 0 {
			return
		}
	}
	t.Fatal("transactions of others do not end")
}

func keysOf(t testing.TB, s *Service) auditlog.Keys {
	t.Helper()
	list, err := s.tree.PublicKeys(t.Context())
	backendtest.Must(t, err)
	var texts []string
	for _, k := range list {
		texts = append(texts, k.Text)
	}
	keys, err := auditlog.ParseKeys(texts...)
	backendtest.Must(t, err)
	return keys
}

// wantTree checks that the tree is that of the events, in their order, under a signed
// checkpoint.
func wantTree(t testing.TB, s *Service, want int) {
	t.Helper()
	entries, err := listEntries(t.Context(), s.db, 0, want+1)
	backendtest.Must(t, err)
	backendtest.Equal(t, len(entries), want, "number of entries")
	latest, err := s.tree.Latest(t.Context())
	backendtest.Must(t, err)
	signed, err := auditlog.OpenCheckpoint(latest.Note, keysOf(t, s))
	backendtest.Must(t, err)
	backendtest.Equal(t, signed.Size, int64(want), "size")
	backendtest.Equal(t, signed.Root, rootOf(t, entries), "root")
}

func rootOf(t testing.TB, entries []Entry) tlog.Hash {
	t.Helper()
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		list := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			list[i] = stored[index]
		}
		return list, nil
	})
	for i := range entries {
		backendtest.Equal(t, entries[i].Leaf, int64(i), "leaf")
		hashes, err := tlog.StoredHashes(int64(i), entries[i].Bytes(), read)
		backendtest.Must(t, err)
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(int64(len(entries)), read)
	backendtest.Must(t, err)
	return root
}

func TestSequence(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		backendtest.Must(t, s.Sequence(t.Context()))
		if _, err := s.tree.Latest(t.Context()); !errors.Is(err, database.ErrNoRows) {
			t.Errorf("a log without events has a checkpoint: %v", err)
		}
		total := 0
		for _, n := range []int{1, 1, 3, 250, 1, 600, 2345} { // tiles are of 256, batches of 1,000
			add(t, s, things(n)...)
			total += n
			grow(t, s, fake)
			wantTree(t, s, total)
		}
	})
}

// TestSignEvery checks that checkpoints gather events for a second.
func TestSignEvery(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, of(1))
		grow(t, s, fake)
		add(t, s, of(2))
		settle(t, s)
		fake.Advance(signEvery - time.Millisecond)
		backendtest.Must(t, s.Sequence(t.Context()))
		wantSize := func(n int64) {
			t.Helper()
			latest, err := s.tree.Latest(t.Context())
			backendtest.Must(t, err)
			backendtest.Equal(t, latest.Size, n, "size")
		}
		wantSize(1)
		fake.Advance(time.Millisecond)
		backendtest.Must(t, s.Sequence(t.Context()))
		wantSize(2)
		fake.Set(-time.Hour) // a clock that is set back holds nothing up
		add(t, s, of(3))
		settle(t, s)
		backendtest.Must(t, s.Sequence(t.Context()))
		wantSize(3)
	})
}

// TestSequenceAtOnce checks that instances that sequence at once leave one tree without
// gaps while events are committed in transactions that overlap.
func TestSequenceAtOnce(t *testing.T) {
	onDatabases(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		grown := newTree(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var sequencing, writing sync.WaitGroup
		for range 3 {
			other, _ := newService(s.db)
			newTree(t, other)
			sequencing.Go(func() {
				for ctx.Err() == nil {
					head, _, err := other.tree.Head(ctx)
					if err == nil {
						_, err = other.sequenceSome(ctx, head)
					}
					if err != nil && ctx.Err() == nil {
						t.Error(err)
						return
					}
				}
			})
		}
		const writers, each = 4, 60
		for range writers {
			writing.Go(func() {
				for range each {
					if err := commit(s, things(3)...); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		writing.Wait()
		cancel()
		sequencing.Wait()
		grow(t, s, fake)
		wantTree(t, s, writers*each*3)
		list, err := grown.Checkpoints(t.Context(), 0, 10_000)
		backendtest.Must(t, err)
		entries, err := listEntries(t.Context(), s.db, 0, writers*each*3)
		backendtest.Must(t, err)
		for _, c := range list {
			if c.Root != rootOf(t, entries[:c.Size]) {
				t.Errorf("the checkpoint of %d events is of another history", c.Size)
			}
		}
		t.Logf("%d checkpoints", len(list))
	})
}

// TestSequenceWaitsForOpenTransactions checks that an event is not passed by because a
// younger transaction committed first.
func TestSequenceWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, s *Service, begin func() openTx) {
		newTree(t, s)
		older := begin()
		backendtest.Must(t, Append(t.Context(), older, s.clock, of(1)))
		add(t, s, of(2))
		head, _, err := s.tree.Head(t.Context())
		backendtest.Must(t, err)
		n, err := s.sequenceSome(t.Context(), head)
		backendtest.Must(t, err)
		backendtest.Equal(t, n, 0, "events while an older transaction is open")
		backendtest.Must(t, older.Commit())
		settle(t, s)
		_, err = s.sequenceSome(t.Context(), head)
		backendtest.Must(t, err)
		wantTree(t, s, 2)
	})
}

// TestSequenceAfterAMove checks that a database that was dumped and restored on another
// PostgreSQL server, whose transactions count from a lower number, goes on.
func TestSequenceAfterAMove(t *testing.T) {
	t.Parallel()
	onPostgres(t, func(t *testing.T, s *Service, _ func() openTx) {
		newTree(t, s)
		fake := clock.NewFake(start)
		s.clock = fake.Clock()
		add(t, s, things(5)...)
		grow(t, s, fake)
		add(t, s, things(2)...) // committed, and not in the tree when it was dumped
		const ahead = 1 << 40
		for _, statement := range []string{
			`UPDATE audit_events SET writer = writer + $1`, `UPDATE audit_head SET writer = writer + $1`,
		} {
			_, err := s.db.Exec(t.Context(), statement, int64(ahead))
			backendtest.Must(t, err)
		}
		add(t, s, things(3)...)
		grow(t, s, fake)
		grow(t, s, fake)
		wantTree(t, s, 10)
		add(t, s, things(3)...)
		grow(t, s, fake)
		wantTree(t, s, 13)
	})
}

// TestSequenceOnlyWhatWasSigned checks that no checkpoint is signed on top of a tree that
// somebody changed.
func TestSequenceOnlyWhatWasSigned(t *testing.T) {
	for name, c := range map[string]struct {
		statements []string
		unknown    bool // only who has seen the newest checkpoint can tell
	}{
		"a hash":     {statements: []string{`UPDATE audit_tiles SET data = (SELECT data FROM audit_tiles WHERE level = 0 AND n = 1) WHERE level = 0 AND n = 2`}},
		"head":       {statements: []string{`UPDATE audit_head SET size = size - 1`}},
		"checkpoint": {statements: []string{`DELETE FROM audit_checkpoints WHERE size = (SELECT MAX(size) FROM audit_checkpoints)`}},
		"signature":  {statements: []string{`UPDATE audit_checkpoints SET note = (SELECT note FROM audit_checkpoints WHERE size = 601) WHERE size = 602`}},
		"older state": {statements: []string{
			`DELETE FROM audit_checkpoints WHERE size > 600`, `UPDATE audit_head SET size = 600`,
			`DELETE FROM audit_leaves WHERE leaf >= 600`,
		}, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
				add(t, s, things(600)...)
				grow(t, s, fake)
				add(t, s, of(600))
				grow(t, s, fake)
				add(t, s, of(601))
				grow(t, s, fake) // what the instance has seen is a checkpoint of 601
				for _, statement := range c.statements {
					_, err := s.db.Exec(t.Context(), statement)
					backendtest.Must(t, err)
				}
				add(t, s, of(602))
				settle(t, s)
				fake.Advance(signEvery)
				if err := s.Sequence(t.Context()); !errors.Is(err, tree.ErrForked) {
					t.Errorf("the same instance: %v", err)
				}
				restarted, _ := newService(s.db)
				restarted.clock = s.clock
				newTree(t, restarted)
				if err := restarted.Sequence(t.Context()); errors.Is(err, tree.ErrForked) == c.unknown {
					t.Errorf("a new instance: %v", err)
				}
			})
		})
	}
}
