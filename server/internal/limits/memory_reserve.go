package limits

import "context"

// memoryOpen is how many reservations a Memory keeps open: about 100 MB when full.
// When a part of it is full, those that would be there are refused. A caller may have
// as many in it as it leaves free.
const memoryOpen = 1 << 20

// opened is an open reservation.
type opened struct {
	until int64
	by    string
}

// Reserve implements Backend. It does not fail but for errTooManyOpen.
func (m *Memory) Reserve(_ context.Context, c Count, open, by string) (Outcome, error) {
	return m.with(c, func(s *shard, name counter, st state, now int64) (state, Outcome, error) {
		if s.full(name, by) {
			s.sweepOpen(now)
		}
		if s.full(name, by) {
			return st, Outcome{}, errTooManyOpen
		}
		exceeded := c.exceeded(st, now)
		if !exceeded {
			st = c.take(st, now)
			if s.open[name] == nil {
				s.open[name] = map[string]opened{}
			}
			s.open[name][open] = opened{now + openFor.Microseconds(), by}
			s.opened++
			s.openedBy[by]++
		}
		st, reached := c.reach(st, exceeded)
		o := c.outcome(st, now, exceeded)
		o.Reached = reached
		return st, o, nil
	})
}

// Settle implements Backend. It does not fail but for errNotOpen.
func (m *Memory) Settle(_ context.Context, c Count, t settlement) (Outcome, error) {
	return m.with(c, func(s *shard, name counter, st state, now int64) (state, Outcome, error) {
		if s.open[name][t.open].until <= now {
			return st, Outcome{}, errNotOpen
		}
		s.forget(name, t.open)
		st = c.settle(st, now, t)
		st, reached := c.reach(st, false)
		o := c.outcome(st, now, false)
		o.Reached = reached
		return st, o, nil
	})
}

// with changes one counter.
func (m *Memory) with(c Count, change func(s *shard, name counter, st state, now int64) (state, Outcome, error)) (Outcome, error) {
	var names [1]counter
	var places [1]int
	set := m.place([]Count{c}, names[:], places[:])
	m.lock(set)
	defer m.unlock(set)
	now := m.clock.Micros()
	s := &m.shards[places[0]]
	name := s.name(names[0], m.max, now)
	var st state
	if e := s.counters[name]; e != nil {
		st = e.state
	}
	st, o, err := change(s, name, c.advance(st, now), now)
	if err != nil {
		return Outcome{}, err
	}
	s.put(name, entry{st, c.end(st)}, now)
	o.state, o.now = st, now
	return o, nil
}

// full reports whether the caller may have no further reservation. The lock is held.
func (s *shard) full(name counter, by string) bool {
	return len(s.open[name]) >= mostOpen || s.openedBy[by] >= memoryOpen/shardCount-s.opened
}

// sweepOpen removes reservations that can no longer be settled. The lock is held.
func (s *shard) sweepOpen(now int64) {
	if now-s.sweptOpen < fullSweepEvery && now >= s.sweptOpen {
		return
	}
	s.sweptOpen = now
	for name, held := range s.open {
		for id, o := range held {
			if o.until <= now {
				s.forget(name, id)
			}
		}
	}
}

// forget removes an open reservation. The lock is held.
func (s *shard) forget(name counter, open string) {
	by := s.open[name][open].by
	if s.openedBy[by]--; s.openedBy[by] == 0 {
		delete(s.openedBy, by)
	}
	delete(s.open[name], open)
	s.opened--
	if len(s.open[name]) == 0 {
		delete(s.open, name)
	}
}
