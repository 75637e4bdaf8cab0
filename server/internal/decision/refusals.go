package decision

import (
	"strconv"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/world"
)

const (
	// quiet is how long one key's refusals by one limit make one event.
	quiet = 10 * time.Second
	// remembered bounds how many keys are told apart; a flood from more is
	// recorded together.
	remembered = 10_000
)

// refusals keeps a flood that a limit holds off from flooding the audit log:
// the first refusal of a key is recorded at once, those of the next ten
// seconds as a number in the event after them.
type refusals struct {
	world world.World
	mu    sync.Mutex
	seen  map[refusal]*silence
}

type refusal struct{ limit, key string }

type silence struct {
	until      time.Time
	suppressed int
}

func newRefusals(w world.World) *refusals {
	return &refusals{world: w, seen: map[refusal]*silence{}}
}

// note says whether the refusal is worth an event, and adds to the event how
// many before it were not.
func (r *refusals) note(event audit.Event, limit, key string) (audit.Event, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.world.Now()
	s := r.find(refusal{limit, key}, now)
	if now.Before(s.until) {
		s.suppressed++
		return event, false
	}
	if s.suppressed > 0 {
		event = event.With("refused_before", strconv.Itoa(s.suppressed))
	}
	s.until, s.suppressed = now.Add(quiet), 0
	return event, true
}

func (r *refusals) find(k refusal, now time.Time) *silence {
	if s, ok := r.seen[k]; ok {
		return s
	}
	if len(r.seen) >= remembered {
		for k, s := range r.seen {
			if !now.Before(s.until) && s.suppressed == 0 {
				delete(r.seen, k)
			}
		}
	}
	if len(r.seen) >= remembered {
		k = refusal{} // together
		if s, ok := r.seen[k]; ok {
			return s
		}
	}
	s := &silence{}
	r.seen[k] = s
	return s
}
