package metrics

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Why a call was turned away without having been served: a closed set, which
// is a metric's label.
const (
	RefusedOverloaded  = "overloaded"  // as many calls are under way as may be
	RefusedMemory      = "memory"      // the requests of an address, or of all, hold as much memory as they may
	RefusedStreams     = "streams"     // as many streams of a kind are open as may be
	RefusedConnections = "connections" // as many connections are open as may be
	RefusedBusy        = "busy"        // as many sign-ins wait for a password check as may
	RefusedLimited     = "limited"     // a limit is used up
	RefusedSlow        = "slow"        // the message, or the reading of the answer, took the caller too long
	RefusedHungUp      = "hung_up"     // the caller left before the answer
	RefusedTimeout     = "timeout"     // the caller's deadline passed
	RefusedUnavailable = "unavailable" // something that is needed is down
	RefusedUpstream    = "upstream"    // the service behind the gateway does not answer, or there is none
	RefusedOther       = "other"       // none of these
)

var refusedReasons = []string{
	RefusedOverloaded, RefusedMemory, RefusedStreams, RefusedConnections, RefusedBusy, RefusedLimited, RefusedSlow, RefusedHungUp, RefusedTimeout, RefusedUnavailable, RefusedUpstream, RefusedOther,
}

func newRefused() *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tollgate_refused_total",
		Help: "Calls turned away without being served, by reason: " + strings.Join(refusedReasons, ", ") + ".",
	}, []string{"reason"})
	for _, reason := range refusedReasons {
		v.WithLabelValues(reason) // so that the first is a rise from 0
	}
	return v
}

// Refused counts a call that was turned away. A reason outside of the closed
// set is counted as RefusedOther.
func (m *Metrics) Refused(reason string) {
	if !slices.Contains(refusedReasons, reason) {
		reason = RefusedOther
	}
	m.refused.WithLabelValues(reason).Inc()
}
