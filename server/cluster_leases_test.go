package main_test

import (
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// admission is when an allowed call was sent and answered. It was counted at some
// time between the two.
type admission struct{ from, to time.Duration }

// fullest counts the windows of time that begin with one admission and end with
// another, those in which more were sent and answered than the burst and what the
// rate adds, and how full the fullest is, 1 being all that is allowed.
func fullest(all []admission, rate, burst float64) (windows, broken int, most float64) {
	byEnd := slices.SortedFunc(slices.Values(all), func(a, b admission) int { return int(a.to - b.to) })
	for _, first := range all {
		n := 0
		for _, a := range byEnd {
			if a.from < first.from {
				continue
			}
			n++
			windows++
			share := float64(n) / (burst + rate*(a.to-first.from).Seconds())
			most = max(most, share)
			if share > 1 {
				broken++
			}
		}
	}
	return windows, broken, most
}

// TestClusterLeases checks the same of a limit with leases, while an instance is
// stopped with what it holds, and another is killed with it.
func TestClusterLeases(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	const rate, burst, setAside = 200, 100, 20
	c.on(0).Post(t, "/v1/limits", object{"name": "leased", "subject": "SUBJECT_CUSTOM", "contextKey": "who", "permission": "orders:*",
		"rate": rate, "period": "1s", "burst": burst, "lease": true, "outage": "OUTAGE_CLOSED"}) // as in TestClusterLimit
	for i := range c.servers {
		apitest.Eventually(t, "the limit is known", func() bool {
			return c.on(i).Call(t, "POST", "/v1/limits/check", object{"limit": "leased", "key": "warm", "peek": true}).Status == http.StatusOK
		})
	}
	servers := &roster{servers: c.servers}
	began := time.Now()
	steady := time.Duration(often(2, 15)) * time.Second
	var asked, held atomic.Int64
	var over atomic.Bool
	each := make([][]admission, 12)
	load := make(chan struct{})
	go func() {
		defer close(load)
		together(len(each), func(w int) {
			for !over.Load() {
				s, up := servers.pick(w)
				if !up {
					<-time.After(10 * time.Millisecond) // until it is replaced
					continue
				}
				from := time.Since(began)
				a, err := s.Try(t.Context(), "POST", "/v1/limits/check", object{"limit": "leased", "key": "one"})
				if err != nil || a.Status != http.StatusOK {
					continue // the server was killed
				}
				asked.Add(1)
				if a.At("allowed") == true {
					each[w] = append(each[w], admission{from, time.Since(began)})
				}
				if a.At("status", "leased") != nil {
					held.Add(1)
				}
			}
		})
	}()
	for round := range often(1, 3) {
		<-time.After(steady)
		stopped, killed := c.servers[round%3], (round+1)%3
		stopped.signal(t, syscall.SIGSTOP)
		<-time.After(time.Duration(often(1, 3)) * time.Second)
		stopped.signal(t, syscall.SIGCONT)
		<-time.After(time.Second)
		c.servers[killed].kill(t)
		next := serve(t, t.TempDir(), c.env...)
		next.Token = c.admin
		servers.replace(killed, next) // which is the cluster's, too
	}
	<-time.After(steady)
	over.Store(true)
	<-load
	all := slices.Concat(each...)
	windows, broken, most := fullest(all, rate, burst)
	if int(asked.Load()) < 2*len(all) || held.Load() == 0 {
		t.Errorf("%d questions for %d admissions, %d while calls were held: the limit was not under pressure", asked.Load(), len(all), held.Load())
	}
	promise(t, "a limit with leases over 3 instances, stopped for 3 s and killed with what they hold: in every window of length t at most burst + rate·t pass",
		broken == 0 && len(all) > often(0, burst),
		"%d of %d calls admitted in %s; %d windows, broken %d, the fullest at %.1f%%",
		len(all), asked.Load(), time.Since(began).Round(time.Second), windows, broken, 100*most)
	used := 0
	for _, a := range all {
		if a.to < steady {
			used++
		}
	}
	budget := burst - setAside + rate*steady.Seconds()
	promise(t, "… under steady load 95 % of what it allows are used", !chaos || float64(used) >= 0.95*budget,
		"%d of %.0f in %s", used, budget, steady)
}
