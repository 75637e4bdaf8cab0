package sinks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/database"
)

// errLost is for a write of who no longer drives the sink.
var errLost = errors.New("another instance drives this sink now")

// row is a sink's cursor.
type row struct {
	Next      int64  `db:"next_leaf"`
	Until     int64  `db:"until_leaf"`
	Skipped   int64  `db:"skipped"`
	Confirmed int64  `db:"confirmed_at"`
	Failing   *int64 `db:"failing_since"`
	Holder    string `db:"holder"`
	HeldUntil int64  `db:"held_until"`
}

const rowColumns = `next_leaf, until_leaf, skipped, confirmed_at, failing_since, holder, held_until`

// store reads and writes the cursor of one sink.
type store struct {
	db   *database.DB
	name string
	me   string
}

// create makes the cursor of a new sink.
func (s store) create(ctx context.Context, next int64, now time.Time) error {
	err := s.db.WriteOne(ctx, `INSERT INTO audit_sinks (name, next_leaf, until_leaf, confirmed_at) VALUES ($1, $2, $2, $3)
		ON CONFLICT (name) DO NOTHING`, s.name, next, now.UnixMicro())
	if err != nil {
		return fmt.Errorf("create the cursor of audit sink %s: %w", s.name, err)
	}
	return nil
}

// read returns the cursor; ErrNoRows when the sink is new.
func (s store) read(ctx context.Context) (r row, err error) {
	err = s.db.Get(ctx, &r, `SELECT `+rowColumns+` FROM audit_sinks WHERE name = $1`, s.name)
	if err != nil && !errors.Is(err, database.ErrNoRows) {
		err = fmt.Errorf("read the cursor of audit sink %s: %w", s.name, err)
	}
	return r, err
}

// take makes this instance the one that drives the sink, unless another does.
func (s store) take(ctx context.Context, now time.Time, lease time.Duration) (taken bool, err error) {
	err = s.change(ctx, `UPDATE audit_sinks SET holder = $1, held_until = $2 WHERE name = $3 AND (holder = $1 OR held_until < $4)`,
		s.me, now.Add(lease).UnixMicro(), s.name, now.UnixMicro())
	if errors.Is(err, errLost) {
		return false, nil
	}
	return err == nil, err
}

// release lets another instance drive the sink at once.
func (s store) release(ctx context.Context) error {
	return s.change(ctx, `UPDATE audit_sinks SET holder = '', held_until = 0 WHERE name = $1 AND holder = $2`, s.name, s.me)
}

// intend notes what is about to be sent.
func (s store) intend(ctx context.Context, next, until int64) error {
	return s.change(ctx, `UPDATE audit_sinks SET until_leaf = $1 WHERE name = $2 AND holder = $3 AND next_leaf = $4`, until, s.name, s.me, next)
}

// confirm moves the cursor past what was delivered, or is gone.
func (s store) confirm(ctx context.Context, next, until, skipped int64, now time.Time) error {
	return s.change(ctx, `UPDATE audit_sinks SET next_leaf = $1, until_leaf = $1, skipped = skipped + $2, confirmed_at = $3, failing_since = NULL
		WHERE name = $4 AND holder = $5 AND next_leaf = $6`, until, skipped, now.UnixMicro(), s.name, s.me, next)
}

// failed notes since when deliveries fail.
func (s store) failed(ctx context.Context, now time.Time) error {
	return s.change(ctx, `UPDATE audit_sinks SET failing_since = COALESCE(failing_since, $1) WHERE name = $2 AND holder = $3`,
		now.UnixMicro(), s.name, s.me)
}

// StartOver has every sink begin with the first leaf, because the tree is another: the
// leaves of the one before say nothing about which events are in this one.
func StartOver(ctx context.Context, tx *database.Tx) error {
	_, err := tx.Exec(ctx, `UPDATE audit_sinks SET next_leaf = 0, until_leaf = 0, holder = '', held_until = 0`)
	if err != nil {
		return fmt.Errorf("set audit sinks back: %w", err)
	}
	return nil
}

// change is a write that is in vain, errLost, when another instance drives the sink.
func (s store) change(ctx context.Context, statement string, args ...any) error {
	err := s.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		n, err := tx.Exec(ctx, statement, args...)
		if err == nil && n == 0 {
			return errLost
		}
		return err
	})
	if err != nil && !errors.Is(err, errLost) {
		return fmt.Errorf("move the cursor of audit sink %s: %w", s.name, err)
	}
	return err
}
