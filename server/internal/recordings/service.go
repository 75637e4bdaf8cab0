package recordings

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/page"
)

// Service keeps the recordings. It is a changes.Follower: until the log has started
// there are none.
type Service struct {
	db    *database.DB
	log   *changes.Log
	check func(field, pattern string) error
	clock clock.Clock
	pages page.Tokens

	rules atomic.Pointer[Rules] // nil: nothing is recorded
}

// New makes the service; check is the fault of a field with a pattern, nil when there is
// none. The caller has the log follow it.
func New(db *database.DB, log *changes.Log, check func(field, pattern string) error, clk clock.Clock, pages page.Tokens) *Service {
	return &Service{db: db, log: log, check: check, clock: clk, pages: pages}
}

// Rules are the recordings in force here; nil when there are none.
func (s *Service) Rules() *Rules { return s.rules.Load() }

// Find is one of the recordings in force here.
func (s *Service) Find(name string) (Recording, bool) {
	if rules := s.rules.Load(); rules != nil {
		r, found := rules.all[name]
		return r, found
	}
	return Recording{}, false
}

// All are the recordings in force here, by name. Do not change them.
func (s *Service) All() map[string]Recording {
	if rules := s.rules.Load(); rules != nil {
		return rules.all
	}
	return nil
}

// Reset reads all recordings again.
func (s *Service) Reset(ctx context.Context) error {
	list, err := allRecordings(ctx, s.db)
	if err != nil {
		return fmt.Errorf("read all recordings: %w", err)
	}
	if len(list) == 0 {
		s.rules.Store(nil)
		return nil
	}
	seed, err := readSeed(ctx, s.db)
	if err != nil {
		return err
	}
	all := make(map[string]Recording, len(list))
	for _, r := range list {
		all[r.Name] = r
	}
	s.rules.Store(newRules(seed, all))
	return nil
}

// Apply reads the recordings again when one changed.
func (s *Service) Apply(ctx context.Context, list []changes.Change) error {
	for _, c := range list {
		if c.Kind == changes.Recording {
			return s.Reset(ctx)
		}
	}
	return nil
}

// Create adds a recording. It is in force on this instance when Create returns.
func (s *Service) Create(ctx context.Context, r Recording) (Recording, int64, error) {
	r, err := r.normal()
	if err != nil {
		return Recording{}, 0, err
	}
	if err := s.check("permission", r.Permission); err != nil {
		return Recording{}, 0, err
	}
	r.CreatedAt = s.clock.Stored()
	r.UpdatedAt = r.CreatedAt
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		n, err := lockWriters(ctx, tx)
		switch {
		case err != nil:
			return err
		case n >= maxRecordings:
			return fault.New(fault.Precondition, "TOO_MANY_RECORDINGS",
				"there are %d recordings, the most there can be; remove one that is not needed first", n)
		}
		err = insertRecording(ctx, tx, r)
		if errors.Is(err, database.ErrExists) {
			return fault.New(fault.Exists, "RECORDING_EXISTS", "a recording %q exists already; choose another name or update it", r.Name)
		}
		if err != nil {
			return fmt.Errorf("create recording %q: %w", r.Name, err)
		}
		tx.Record(event(ctx, audit.RecordingCreate, r))
		tx.Changed(changes.Recording, r.Name)
		return nil
	})
	return r, revision, err
}

// Get reads a recording from the database.
func (s *Service) Get(ctx context.Context, name string) (Recording, error) {
	r, err := getRecording(ctx, s.db, name)
	return r, recordingError("read", name, err)
}

// List returns a page of recordings by name, and the next page's token, empty on the
// last.
func (s *Service) List(ctx context.Context, size int32, token string) ([]Recording, string, error) {
	return page.List(s.pages, "recordings", size, token, func(after string, n int) ([]Recording, error) {
		return listRecordings(ctx, s.db, after, n)
	}, func(r Recording) string { return r.Name })
}

// Update changes a recording.
func (s *Service) Update(ctx context.Context, name string, edit Edit) (Recording, int64, error) {
	if edit.empty() {
		return Recording{}, 0, fault.NothingToUpdate()
	}
	var r Recording
	revision, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := lockWriters(ctx, tx); err != nil {
			return err
		}
		before, err := getRecording(ctx, tx, name)
		if err != nil {
			return recordingError("update", name, err)
		}
		if r, err = edit.apply(before).normal(); err != nil {
			return err
		}
		if r.Permission != before.Permission {
			if err := s.check("permission", r.Permission); err != nil {
				return err
			}
		}
		r.UpdatedAt = s.clock.Stored()
		if err := updateRecording(ctx, tx, r); err != nil {
			return fmt.Errorf("update recording %q: %w", name, err)
		}
		e := event(ctx, audit.RecordingUpdate, r)
		for key, was := range details(before) {
			if was != e.Details[key] {
				e = e.With(key+"_before", was)
			}
		}
		tx.Record(e)
		tx.Changed(changes.Recording, name)
		return nil
	})
	return r, revision, err
}

// Delete removes a recording. What was recorded stays.
func (s *Service) Delete(ctx context.Context, name string) (int64, error) {
	return s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if _, err := lockWriters(ctx, tx); err != nil {
			return err
		}
		r, err := getRecording(ctx, tx, name)
		if err != nil {
			return recordingError("delete", name, err)
		}
		if err := deleteRecording(ctx, tx, name); err != nil {
			return fmt.Errorf("delete recording %q: %w", name, err)
		}
		tx.Record(event(ctx, audit.RecordingDelete, r))
		tx.Changed(changes.Recording, name)
		return nil
	})
}

// event records what a recording is, or was.
func event(ctx context.Context, action audit.Action, r Recording) audit.Event {
	e := audit.New(ctx, action, audit.Success, "recordings/"+r.Name)
	e.Details = details(r)
	return e
}

func details(r Recording) map[string]string {
	return map[string]string{"permission": r.Permission, "sample": strconv.FormatInt(r.Sample, 10)}
}

// recordingError wraps the store's error about one recording; no rows are
// RECORDING_NOT_FOUND.
func recordingError(verb, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, database.ErrNoRows):
		return fault.New(fault.NotFound, "RECORDING_NOT_FOUND", "there is no recording %q; list the recordings to see their names", name)
	default:
		return fmt.Errorf("%s recording %q: %w", verb, name, err)
	}
}
