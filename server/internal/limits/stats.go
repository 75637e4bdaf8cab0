package limits

import "time"

// Counted is where a call was counted.
type Counted string

// The places. The set is closed: it is used as a metric's label.
const (
	CountedOK    Counted = "ok"    // by the backend
	CountedLocal Counted = "local" // in this process, because the backend is down
	CountedDown  Counted = "down"  // nowhere: the backend is down, and the limits are open or closed then
)

// Observe has fn told about every call that limits apply to: where it was
// counted, and how long the backend took. Call it before the first Take. fn
// must not wait.
func (s *Service) Observe(fn func(where Counted, took time.Duration)) { s.observe = fn }

func (s *Service) observed(where Counted, took time.Duration) {
	if s.observe != nil {
		s.observe(where, took)
	}
}
