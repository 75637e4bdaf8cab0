package audit

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

func inTx(t *testing.T, s *Service, do func(ctx context.Context, tx *database.Tx) error) {
	t.Helper()
	backendtest.Must(t, s.db.Write(t.Context(), do))
}

// TestRotateAuditKey checks that a new key signs, and the old one's checkpoints stay good.
func TestRotateAuditKey(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, things(5)...)
		grow(t, s, fake)
		before, err := s.tree.Latest(t.Context())
		backendtest.Must(t, err)
		var id string
		inTx(t, s, func(ctx context.Context, tx *database.Tx) (err error) {
			id, err = s.tree.Rotate(ctx, tx)
			return err
		})
		add(t, s, things(5)...)
		grow(t, s, fake)
		keys, err := s.tree.PublicKeys(t.Context())
		backendtest.Must(t, err)
		backendtest.Equal(t, len(keys), 2, "keys")
		for _, key := range keys {
			backendtest.Equal(t, key.Retired.IsZero(), key.ID == id, "%s signs", key.ID)
		}
		latest, err := s.tree.Latest(t.Context())
		backendtest.Must(t, err)
		for _, key := range keys {
			only, err := auditlog.ParseKeys(key.Text)
			backendtest.Must(t, err)
			_, signedBefore := auditlog.OpenCheckpoint(before.Note, only)
			_, signedNow := auditlog.OpenCheckpoint(latest.Note, only)
			if (signedBefore == nil) == (key.ID == id) || (signedNow == nil) != (key.ID == id) {
				t.Errorf("key %s: %v, %v", key.ID, signedBefore, signedNow)
			}
		}
		if report := verify(t, s, before.Note); len(report.Findings) != 0 {
			t.Errorf("found %v", report.Findings)
		}
	})
}

// TestForeignAuditKey checks that a key that the owner of the database brought in signs
// nothing and verifies nothing.
func TestForeignAuditKey(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, of(1))
		grow(t, s, fake)
		other, err := seal.New([]byte("another master key of 32 bytes!!"))
		backendtest.Must(t, err)
		forger := tree.New(s.db, s.clock, other, testOrigin)
		exec(t, s, `CREATE TABLE own AS SELECT * FROM audit_keys`, `DELETE FROM audit_keys`)
		backendtest.Must(t, forger.Ensure(t.Context()))
		add(t, s, of(2))
		settle(t, s)
		fake.Advance(signEvery)
		if err := s.Sequence(t.Context()); err == nil || !strings.Contains(err.Error(), seal.ErrWrongKey.Error()) {
			t.Errorf("signed: %v", err)
		}
		exec(t, s, `INSERT INTO audit_keys SELECT * FROM own`)
		if _, err := s.tree.PublicKeys(t.Context()); err == nil {
			t.Error("it is among the log's keys")
		}
	})
}

// TestStartOver checks that the log's events go into a new tree that nobody takes for the
// old one.
func TestStartOver(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, things(5)...)
		grow(t, s, fake)
		before, err := s.tree.Latest(t.Context())
		backendtest.Must(t, err)
		if s.db.Dialect == database.PostgreSQL { // from another server
			exec(t, s, `UPDATE audit_events SET writer = writer + 1000000000000`)
		}
		var name string
		inTx(t, s, func(ctx context.Context, tx *database.Tx) (err error) {
			name, err = s.tree.StartOver(ctx, tx)
			return err
		})
		add(t, s, things(3)...)
		restarted, _ := newService(s.db)
		restarted.clock = s.clock
		newTree(t, restarted)
		grow(t, restarted, fake)
		wantTree(t, restarted, 8)
		latest, err := restarted.tree.Latest(t.Context())
		backendtest.Must(t, err)
		backendtest.Equal(t, latest.Origin, name, "name")
		if latest.Origin == before.Origin {
			t.Error("it has the old name")
		}
		if _, err := (auditlog.Verification{Source: restarted.Source(), Keys: keysOf(t, restarted), Saved: before.Note}).Verify(t.Context()); err == nil {
			t.Error("a checkpoint of the old tree verifies the new one")
		}
	})
}

// TestStartOverAfterRetention checks that records of what was removed from the old tree are
// no fault of the new one, explain nothing that is missing there, and that no leaf of the
// new tree goes because one of the old tree was to go.
func TestStartOverAfterRetention(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		add(t, s, things(20)...)
		grow(t, s, fake)
		fake.Advance(1000 * time.Hour)
		deleted, err := s.Prune(t.Context(), Retentions{Default: 24 * time.Hour})
		backendtest.Must(t, err)
		backendtest.Equal(t, deleted, int64(20), "deleted")
		add(t, s, things(30)...)
		grow(t, s, fake)
		exec(t, s, `INSERT INTO audit_dropped_leaves (first_leaf, last_leaf) VALUES (3, 9)`)
		old := keysOf(t, s)
		inTx(t, s, func(ctx context.Context, tx *database.Tx) error {
			if _, err := s.tree.StartOver(ctx, tx); err != nil {
				return err
			}
			return Append(ctx, tx, s.clock, Event{Action: LogStartOver, Outcome: Success})
		})
		restarted, _ := newService(s.db)
		restarted.clock = s.clock
		newTree(t, restarted)
		grow(t, restarted, fake)
		wantTree(t, restarted, 32)
		backendtest.Must(t, restarted.deleteDroppedLeaves(t.Context()))
		if report := verify(t, restarted, nil); len(report.Findings) != 0 || report.Removed != 0 {
			t.Errorf("found %v, removed %d", report.Findings, report.Removed)
		}

		exec(t, restarted, `DELETE FROM audit_events WHERE id = (SELECT event_id FROM audit_leaves WHERE leaf = 7)`)
		report := verify(t, restarted, nil)
		if len(report.Findings) != 1 || report.Findings[0].First != 7 {
			t.Errorf("found %v", report.Findings)
		}
		both := auditlog.Verification{Source: restarted.Source(), Keys: append(keysOf(t, restarted), old...)}
		if report, err := both.Verify(t.Context()); err != nil || len(report.Findings) != 1 {
			t.Errorf("with the old tree's keys, too: found %v, %v", report.Findings, err)
		}

		// One that is newer is of this tree.
		add(t, restarted, Event{Action: Retention, Outcome: Success, Details: map[string]string{
			auditlog.DetailBefore: "2026-03-01T12:00:00Z", auditlog.DetailLeaves: "7", auditlog.DetailSignature: "AAAA"}})
		grow(t, restarted, fake)
		backendtest.Equal(t, len(verify(t, restarted, nil).Findings), 2, "findings")
	})
}

func TestThinCheckpoints(t *testing.T) {
	onTrees(t, func(t *testing.T, s *Service, fake *clock.Fake) {
		for range 20 { // every ten minutes
			add(t, s, of(1))
			grow(t, s, fake)
			fake.Advance(10*time.Minute - signEvery)
		}
		fake.Advance(24*time.Hour - 100*time.Minute)
		backendtest.Must(t, s.tree.Thin(t.Context()))
		list, err := s.tree.Checkpoints(t.Context(), 0, 100)
		backendtest.Must(t, err)
		var sizes []int64
		for _, c := range list {
			sizes = append(sizes, c.Size)
		}
		backendtest.Equal(t, sizes, []int64{6, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, "sizes")
		if report := verify(t, s, nil); len(report.Findings) != 0 {
			t.Errorf("found %v", report.Findings)
		}
	})
}
