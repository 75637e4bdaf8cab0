package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const (
	// sequenceEvery is how often the log is looked at for events that are not in the tree,
	// and signEvery how often a checkpoint is signed unless a whole batch waits: an event
	// is under a signed checkpoint 1.25 s after its commit, and the reading.
	sequenceEvery = 250 * time.Millisecond
	signEvery     = time.Second
	// sequenceAtOnce is how many events one transaction adds.
	sequenceAtOnce = 1000
	// movedReach is how far back in positions events are looked for that were committed
	// and not in the tree when a database was moved to another server.
	movedReach = 100_000
)

// GrowTree makes Run put every event of the log into the tree. Without it the log has
// none: for tests of other things.
func (s *Service) GrowTree(t *tree.Tree) { s.tree = t }

// sequence keeps the tree up to the log until ctx ends. Any number of instances may do
// so at once.
func (s *Service) sequence(ctx context.Context) {
	if s.tree == nil {
		return
	}
	ticker := time.NewTicker(s.sequenceEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := s.Sequence(ctx)
		s.counters.forked.Store(errors.Is(err, tree.ErrForked))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			s.log.ErrorContext(ctx, "events are recorded, but cannot be put into the audit log's tree; trying again", "error", err)
		case err == nil && failing:
			s.log.InfoContext(ctx, "events are put into the audit log's tree again")
		}
		failing = err != nil
	}
}

// Sequence puts the events of the log that are settled into the tree, unless the last
// checkpoint is younger than a second and less than a batch waits.
func (s *Service) Sequence(ctx context.Context) error {
	for full := false; ; {
		head, signed, err := s.tree.Head(ctx)
		if err != nil {
			return err
		}
		if age := s.clock.Now().Sub(signed); !full && age >= 0 && age < signEvery {
			return nil
		}
		n, err := s.sequenceSome(ctx, head)
		if err != nil || n < sequenceAtOnce {
			return err
		}
		full = true
	}
}

// sequenceSome puts up to sequenceAtOnce events after head into the tree, and says how
// many it found. It reads and encodes them before it holds what others wait for.
func (s *Service) sequenceSome(ctx context.Context, head tree.Head) (int, error) {
	rows, next, err := unsequenced(ctx, s.db, head, sequenceAtOnce)
	if err != nil {
		return 0, err
	}
	if len(rows) == 0 && next == head {
		s.counters.lag.Store(0)
		return 0, nil
	}
	if len(rows) > 0 {
		s.counters.lag.Store(int64(s.clock.Now().Sub(time.UnixMicro(rows[0].Time))))
	}
	records := make([]tree.Record, len(rows))
	for i := range rows {
		e := rows[i].event()
		salt := make([]byte, auditlog.SaltSize)
		rand.Read(salt)
		records[i] = tree.Record{
			EventID: rows[i].ID, Time: rows[i].Time, Salt: salt, Address: tree.Address(rows[i].IP), Leaf: e.leaf(salt),
		}
	}
	err = s.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		_, err := s.tree.Append(ctx, tx, head, records, next)
		return err
	})
	return len(rows), err
}

// leaf is what the tree hashes of the event.
func (e *Event) leaf(salt []byte) []byte {
	l := auditlog.Leaf{
		ID: e.ID, Time: e.Time,
		Actor:  auditlog.Actor{UserID: e.ActorID, Username: e.ActorName, SessionID: e.SessionID, APIKeyID: e.APIKeyID},
		Action: string(e.Action), Outcome: string(e.Outcome), Reason: e.Reason, Resource: e.Resource,
		IP: e.IP, UserAgent: e.UserAgent, RequestID: e.RequestID, Details: e.Details, RecordedBy: e.RecordedBy, Salt: salt,
	}
	return l.Bytes()
}
