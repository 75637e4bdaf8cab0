package sinks

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

func TestDeliversAll(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 1250)
		to := &receiver{}
		r := f.instance(target(to))
		drain(t, r)
		wantOnce(t, to.times(t), 1250)
		backendtest.Equal(t, len(to.batches), 13, "batches")
		drain(t, r) // nothing is new
		f.add(t, 3)
		drain(t, r)
		wantOnce(t, to.times(t), 1253)
		s := r.status()
		if s.Lag != 0 || s.Failing || s.Failures != 0 || s.Skipped != 0 || !s.Confirmed.Equal(start) {
			t.Errorf("status %+v", s)
		}
	})
}

// killedLog is a log whose reader is killed.
type killedLog struct{ Log }

func (killedLog) Between(context.Context, audit.Span, int) ([]audit.Entry, int64, error) {
	panic(killed)
}

// TestKilled kills an instance at each step of a batch. The next one goes on when the
// lease has ended, loses nothing, and repeats only that batch, as it was.
func TestKilled(t *testing.T) {
	for name, at := range map[string]struct {
		received bool // by the sink, before the kill
		kill     func(r *runner, to *receiver)
	}{
		"before it reads":    {false, func(r *runner, _ *receiver) { r.log = killedLog{r.log} }},
		"before it delivers": {false, func(_ *runner, to *receiver) { to.deliver = func(Batch) error { panic(killed) } }},
		"before it confirms": {true, func(_ *runner, to *receiver) {
			to.deliver = func(b Batch) error { to.batches = append(to.batches, b); panic(killed) }
		}},
		"after it is stopped": {true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			onDatabases(t, func(t *testing.T, f *fixture) {
				f.add(t, 450)
				to := &receiver{}
				first := f.instance(target(to))
				for range 2 {
					_, err := first.step(t.Context())
					backendtest.Must(t, err)
				}
				next := f.instance(target(to))
				if at.kill != nil {
					at.kill(first, to)
					kill(t, func() { _, _ = first.step(t.Context()) })
					to.deliver = nil
					f.add(t, 500) // more than a batch waits now
					drain(t, next)
					backendtest.Equal(t, f.lag(t), 750, "lag while the lease lasts")
					f.fake.Advance(lease + time.Second)
				} else {
					first.stop()
				}
				drain(t, next)
				if at.kill != nil && at.received {
					wantOnce(t, to.times(t), f.written, 200, 300)
					if b := to.batches[3]; b.From != 200 || b.Until != 300 || !b.Repeated {
						t.Errorf("batch %d to %d, repeated: %t", b.From, b.Until, b.Repeated)
					}
				} else {
					wantOnce(t, to.times(t), f.written)
				}
			})
		})
	}
}

// TestTwoInstances checks that one instance at a time drives a sink, and that one which
// slept through its lease moves nothing when it wakes.
func TestTwoInstances(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 250)
		toA, toB := &receiver{}, &receiver{}
		a, b := f.instance(target(toA)), f.instance(target(toB))
		_, err := a.step(t.Context())
		backendtest.Must(t, err)
		drain(t, b)
		backendtest.Equal(t, len(toB.batches), 0, "batches of the other instance")
		if s := b.status(); s.Lag != 150 {
			t.Errorf("the other instance sees a lag of %d", s.Lag)
		}
		for range 10 { // its lease is renewed
			f.fake.Advance(lease / 2)
			_, err := a.step(t.Context())
			backendtest.Must(t, err)
			drain(t, b)
		}
		backendtest.Equal(t, len(toB.batches), 0, "batches of the other instance")

		f.add(t, 100)
		toA.deliver = func(Batch) error { // a sleeps here
			f.fake.Advance(lease + time.Second)
			f.add(t, 100)
			drain(t, b) // past what a delivers
			f.add(t, 100)
			return nil
		}
		_, err = a.step(t.Context())
		backendtest.Must(t, err)
		backendtest.Equal(t, f.lag(t), 100, "lag: what came since")
		toA.deliver = nil
		drain(t, a)
		drain(t, b)
		backendtest.Equal(t, f.lag(t), 0, "lag")
		backendtest.Equal(t, len(toB.batches), 3, "batches of the instance that took over")
		if toA.closed != 1 {
			t.Errorf("the sink of who lost it was closed %d times", toA.closed)
		}
	})
}

// TestOutage has a receiver that is down for a minute: nothing is lost, and only the
// batch that was not confirmed comes again. The log says twice what happened.
func TestOutage(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 150)
		to := &receiver{}
		r := f.instance(target(to))
		_, err := r.step(t.Context())
		backendtest.Must(t, err)
		attempts := 0
		to.deliver = func(b Batch) error {
			if attempts++; attempts == 1 {
				to.batches = append(to.batches, b) // it arrives, but the answer is lost
			}
			if f.fake.Now().Before(start.Add(time.Minute)) {
				return errors.New("connection refused")
			}
			return nil
		}
		for f.lag(t) > 0 {
			wait, err := r.step(t.Context())
			backendtest.Must(t, err)
			if f.fake.Now().Before(start.Add(time.Minute)) {
				f.add(t, 1)
				if s := r.status(); attempts > 0 && (!s.Failing || s.Lag == 0 || s.Failures != uint64(attempts)) {
					t.Fatalf("after %d attempts: %+v", attempts, s)
				}
			}
			f.fake.Advance(max(wait, 100*time.Millisecond))
		}
		wantOnce(t, to.times(t), f.written, 100, 150)
		if attempts < 5 || attempts > 16 { // waits double, up to a minute
			t.Errorf("%d attempts", attempts)
		}
		if s := r.status(); s.Failing || s.Lag != 0 {
			t.Errorf("afterwards: %+v", s)
		}
		lines := strings.Split(strings.TrimSpace(f.logged.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "connection refused") || !strings.Contains(lines[1], "delivers again") {
			t.Errorf("log: %q", lines)
		}
	})
}

// TestRemovedBefore checks that events which retention removed first are counted.
func TestRemovedBefore(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 1300)
		f.remove(t, 0, 1040)
		f.remove(t, 1050, 1055)
		to := &receiver{}
		r := f.instance(target(to))
		drain(t, r)
		backendtest.Equal(t, len(to.times(t)), 255, "leaves")
		drain(t, r)
		if s := r.status(); s.Skipped != 1045 || s.Lag != 0 {
			t.Errorf("status %+v", s)
		}
		if !strings.Contains(f.logged.String(), "were removed from the log before") {
			t.Errorf("log: %s", &f.logged)
		}
	})
}

// TestStartOver checks that no event of a new tree is taken for one of the tree before,
// which the sink has had.
func TestStartOver(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 250)
		before := &receiver{}
		r := f.instance(target(before))
		drain(t, r)
		backendtest.Must(t, f.db.Write(t.Context(), StartOver))
		// The instance that drove the sink reads anew where it is, also when it had sent
		// what it cannot confirm now.
		err := r.store.confirm(t.Context(), 0, 250, 0, f.fake.Now())
		if !errors.Is(err, errLost) {
			t.Errorf("it confirms leaves of the old tree: %v", err)
		}
		after := &receiver{}
		drain(t, f.instance(target(after)))
		wantOnce(t, after.times(t), 250)
	})
}

func TestFromEnd(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 10)
		to := &receiver{}
		late := target(to)
		late.FromEnd = true
		drain(t, f.instance(late))
		f.add(t, 5)
		f.fake.Advance(lease + time.Second)
		drain(t, f.instance(late)) // it is not new any more
		backendtest.Equal(t, len(to.batches), 1, "batches")
		backendtest.Equal(t, to.batches[0].First(), 10, "first leaf")
	})
}

func TestTooLarge(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 250)
		to := &receiver{deliver: func(b Batch) error {
			if len(b.Entries) > 30 {
				return errTooLarge
			}
			return nil
		}}
		r := f.instance(target(to))
		for range 60 {
			drain(t, r)
			f.fake.Advance(time.Second)
		}
		wantOnce(t, to.times(t), 250)
	})
}

// TestRepeatedBounded checks that who writes to the database cannot have a server read the
// whole log into memory.
func TestRepeatedBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(backendtest.SQLite(t))
	f.add(t, maxBatch+500)
	got := &receiver{deliver: func(b Batch) error {
		if len(b.Entries) > maxBatch {
			t.Errorf("a batch of %d events", len(b.Entries))
		}
		return nil
	}}
	r := f.instance(target(got))
	backendtest.Must(t, r.store.create(t.Context(), 0, f.fake.Now()))
	_, err := f.db.Exec(t.Context(), `UPDATE audit_sinks SET until_leaf = $1`, maxBatch+500)
	backendtest.Must(t, err)
	drain(t, r)
	wantOnce(t, got.times(t), maxBatch+500)
}

// TestLinger checks that few events wait for more, but not for long.
func TestLinger(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		to := &receiver{}
		slow := target(to)
		slow.Size.Linger = time.Minute
		r := f.instance(slow)
		for i := range 59 {
			f.add(t, 1)
			drain(t, r)
			backendtest.Equal(t, len(to.batches), 0, "batches after %d s", i)
			f.fake.Advance(time.Second)
		}
		f.fake.Advance(time.Second)
		drain(t, r)
		backendtest.Equal(t, len(to.batches), 1, "batches after a minute")
		f.add(t, 100)
		drain(t, r)
		backendtest.Equal(t, len(to.batches), 2, "batches when enough wait")
	})
}

// TestBatchBytes checks that large events come in small batches.
func TestBatchBytes(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 100)
		to := &receiver{}
		small := target(to)
		small.Size.Bytes = 3000 // of about 310 each
		drain(t, f.instance(small))
		wantOnce(t, to.times(t), 100)
		if n := len(to.batches[0].Entries); n < 5 || n > 20 {
			t.Errorf("%d events at once", n)
		}
	})
}

// TestRun drives a sink with its own timer until it is stopped.
func TestRun(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		f.add(t, 500)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		to := &receiver{}
		to.deliver = func(b Batch) error {
			if b.Until == 500 {
				cancel()
			}
			return nil
		}
		s := New(Options{DB: f.db, Log: f.log, Clock: f.fake.Clock(), Logger: f.instance(target(to)).logger, Targets: []Target{target(to)}})
		s.Run(ctx)
		if to.closed != 1 {
			t.Errorf("closed %d times", to.closed)
		}
		backendtest.WantCount(t, f.db, 1, `SELECT COUNT(*) FROM audit_sinks WHERE holder = ''`)
		drain(t, f.instance(target(to))) // at once
		backendtest.Equal(t, f.lag(t), 0, "lag")
	})
}
