package tollgate

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"pgregory.net/rapid"
)

// leaseModel is a limit, its counter, and clients that hold leases of it. Time passes
// on the way to the counter and back, where others may go on, and while a client is
// stopped in the middle of a decision.
type leaseModel struct {
	*rapid.T
	now     time.Time
	clients []*leases
	todo    []func() // leases to ask for
	limit   *tollgatev1.PolicyLimit

	rate, burst, atOnce int64 // calls a second, at once, and at once less what leases set aside
	lease               time.Duration
	full                time.Time // when all is used that the counter has granted: GCRA
	depth               int
	here                int

	passed []passed
}

type passed struct {
	at   time.Time
	cost int64
}

func (m *leaseModel) pause(label string, most time.Duration) {
	share := rapid.SampledFrom([]float64{0, 0.01, 0.1, 0.5, 0.9, 1}).Draw(m.T, label)
	m.now = m.now.Add(time.Duration(share * float64(most)))
}

// count is the server's: as many of want as are left, or none of less than least.
func (m *leaseModel) count(least, want int64) int64 {
	each := time.Second / time.Duration(m.rate)
	from := m.full
	if m.now.After(from) {
		from = m.now
	}
	left := int64((time.Duration(m.atOnce)*each - from.Sub(m.now)) / each)
	if left < least {
		return 0
	}
	n := min(want, left)
	m.full = from.Add(time.Duration(n) * each)
	return n
}

func (m *leaseModel) ask(_ context.Context, r LeaseLimitRequest) (*Lease, error) {
	l := &Lease{began: instantOf(m.now), now: func() time.Time { return m.now }}
	m.away()
	if l.Granted = m.count(1, r.Want); l.Granted > 0 {
		l.ValidFor = m.lease - m.lease/100
	}
	m.away()
	return l, nil
}

// away is time on a way.
func (m *leaseModel) away() {
	m.pause("way", m.lease/4)
	if m.depth < 2 {
		m.depth++
		for range rapid.IntRange(0, 4).Draw(m.T, "meanwhile") {
			m.step()
		}
		m.depth--
	}
}

func (m *leaseModel) step() {
	switch rapid.IntRange(0, 9).Draw(m.T, "step") {
	case 0, 1:
		m.pause("pause", 3*m.lease)
	case 2, 3, 4:
		if n := len(m.todo); n > 0 {
			next := m.todo[0]
			m.todo = m.todo[1:]
			next()
		}
	default:
		m.call(m.clients[rapid.IntRange(0, len(m.clients)-1).Draw(m.T, "client")], rapid.SampledFrom([]int64{1, 1, 1, 3}).Draw(m.T, "cost"))
	}
}

// call makes calls that have all looked at the clock before this process was stopped,
// if it was.
func (m *leaseModel) call(c *leases, cost int64) {
	looked := m.now
	if rapid.IntRange(0, 9).Draw(m.T, "stopped") == 0 {
		m.pause("stop", 3*m.lease)
	}
	for range rapid.SampledFrom([]int{1, 8, 20, 100}).Draw(m.T, "calls") {
		of := counting{n: 1}
		of.limits[0] = m.limit
		switch {
		case c.pass(&of, &known{}, &AuthorizeRequest{Cost: cost}, looked):
			m.here++
		case m.count(cost, cost) == 0:
			return
		}
		m.passed = append(m.passed, passed{m.now, cost})
	}
}

// check looks at every interval between two calls.
func (m *leaseModel) check() {
	for i, first := range m.passed {
		sum := int64(0)
		for _, last := range m.passed[i:] {
			sum += last.cost
			most := float64(m.burst) + float64(m.rate)*last.at.Sub(first.at).Seconds()
			if float64(sum) > most+1e-6 {
				m.Fatalf("%d calls in %s, want at most %.3f", sum, last.at.Sub(first.at), most)
			}
		}
	}
}

// TestLeasesStayWithin: whatever clients hold leases of a limit, and whenever they use
// them, no more than burst + rate * t pass in any interval of length t.
func TestLeasesStayWithin(t *testing.T) {
	t.Parallel()
	here := 0
	rapid.Check(t, func(t *rapid.T) {
		m := &leaseModel{T: t, now: time.Unix(1_800_000_000, 0)}
		m.rate = rapid.Int64Range(100, 300).Draw(t, "rate")
		m.lease = time.Duration(rapid.Int64Range(20, 100).Draw(t, "lease")) * time.Millisecond
		aside := (m.rate*int64(m.lease) + int64(time.Second) - 1) / int64(time.Second)
		m.burst = 2*aside + rapid.Int64Range(0, 50).Draw(t, "burst")
		m.atOnce = m.burst - aside
		m.limit = &tollgatev1.PolicyLimit{Name: "l", Subject: tollgatev1.Subject_SUBJECT_GLOBAL, Lease: true}
		for range rapid.IntRange(1, 3).Draw(t, "clients") {
			c := newLeases(t.Context(), &Client{config: config{now: func() time.Time { return m.now }}}, func(f func()) { m.todo = append(m.todo, f) })
			c.ask = m.ask
			m.clients = append(m.clients, c)
		}
		for range 150 {
			m.step()
		}
		m.check()
		here += m.here
	})
	if here == 0 {
		t.Error("no call passed by a lease")
	}
}

// heat makes calls of one key until a lease is asked for.
func heat(l *leases, of *counting, now time.Time) {
	for range hotCalls {
		l.pass(of, &known{}, &AuthorizeRequest{}, now)
	}
}

// TestStoppedWithALease: a call that looked at the clock before the lease ended, and
// goes on after it, takes nothing.
func TestStoppedWithALease(t *testing.T) {
	t.Parallel()
	now, looked := time.Unix(1_800_000_000, 0), time.Unix(1_800_000_000, 0)
	var todo []func()
	l := newLeases(t.Context(), &Client{config: config{now: func() time.Time { return now }}}, func(f func()) { todo = append(todo, f) })
	l.ask = func(_ context.Context, r LeaseLimitRequest) (*Lease, error) {
		return &Lease{Granted: r.Want, ValidFor: time.Second, began: instantOf(now), now: l.now}, nil
	}
	of := counting{n: 1}
	of.limits[0] = &tollgatev1.PolicyLimit{Name: "l", Subject: tollgatev1.Subject_SUBJECT_GLOBAL, Lease: true}
	heat(l, &of, now)
	heat(l, &of, now)
	if len(todo) != 1 {
		t.Fatalf("%d leases are asked for at once", len(todo))
	}
	todo[0]()
	now = now.Add(time.Second - 1)
	if !l.pass(&of, &known{}, &AuthorizeRequest{}, looked) {
		t.Error("it ended too early")
	}
	now = now.Add(1)
	if l.pass(&of, &known{}, &AuthorizeRequest{}, looked) {
		t.Error("a call passed by a lease that has ended")
	}
	of.more = true
	if l.pass(&of, &known{}, &AuthorizeRequest{}, looked) {
		t.Error("a call passed that more limits count")
	}
	of.more = false
	for i := range 2 * maxAsking {
		of.limits[0] = &tollgatev1.PolicyLimit{Name: "l", Permission: fmt.Sprint(i), Subject: tollgatev1.Subject_SUBJECT_GLOBAL, Lease: true}
		heat(l, &of, now)
	}
	if len(todo) != 1+maxAsking {
		t.Errorf("%d leases are asked for at once", len(todo)-1)
	}
}

// TestStockKeys: calls share a lease when Tollgate counts them together, and only then.
func TestStockKeys(t *testing.T) {
	t.Parallel()
	who := &known{principal: Principal{UserID: "u", APIKeyID: "k"}}
	r := &AuthorizeRequest{Context: map[string]string{"tenant": "acme"}}
	for _, c := range []struct {
		subject tollgatev1.Subject
		ip      string
		name    string
	}{
		{tollgatev1.Subject_SUBJECT_USER, "", "u"},
		{tollgatev1.Subject_SUBJECT_API_KEY, "", "k"},
		{tollgatev1.Subject_SUBJECT_GLOBAL, "", ""},
		{tollgatev1.Subject_SUBJECT_CUSTOM, "", "acme"},
		{tollgatev1.Subject_SUBJECT_IP, "192.0.2.1", "192.0.2.1"},
		{tollgatev1.Subject_SUBJECT_IP, "::ffff:192.0.2.1", "192.0.2.1"},
		{tollgatev1.Subject_SUBJECT_IP, "2001:db8:1:2:3::4%eth0", "2001:db8:1:2::"},
		{tollgatev1.Subject_SUBJECT_USER_IP, "2001:db8:1:2:ffff::", "u@2001:db8:1:2::"},
	} {
		l := &tollgatev1.PolicyLimit{Subject: c.subject, ContextKey: "tenant", Lease: true}
		if r.IP = (netip.Addr{}); c.ip != "" {
			r.IP = netip.MustParseAddr(c.ip)
		}
		key, ok := stockKeyOf(l, who, r)
		if !ok || key.name() != c.name {
			t.Errorf("%s %s: %q %v, want %q", c.subject, c.ip, key.name(), ok, c.name)
		}
		l.Lease = false
		if _, ok := stockKeyOf(l, who, r); ok {
			t.Errorf("%s: without a lease", c.subject)
		}
	}
	if _, ok := stockKeyOf(&tollgatev1.PolicyLimit{Subject: 99, Lease: true}, who, r); ok {
		t.Error("a subject that is not known")
	}
}

// TestStocksBound: what is remembered is bounded, and keys in use stay.
func TestStocksBound(t *testing.T) {
	t.Parallel()
	l := newLeases(t.Context(), &Client{}, nil)
	limit := &tollgatev1.PolicyLimit{Name: "l"}
	kept := l.stock(stockKey{limit: limit, text: "kept"})
	key := make([]byte, 3)
	for i := range 3 * maxStocks {
		key[0], key[1], key[2] = byte(i), byte(i>>8), byte(i>>16)
		l.stock(stockKey{limit: limit, text: string(key)})
		if i%1000 == 0 && l.stock(stockKey{limit: limit, text: "kept"}) != kept {
			t.Fatal("a key in use was forgotten")
		}
	}
	if n := l.stocks.len(); n > maxStocks {
		t.Errorf("%d keys", n)
	}
	l.keep(&policy{}, false)
	if n := l.stocks.len(); n != 0 {
		t.Errorf("%d keys of a limit that is gone", n)
	}
}
