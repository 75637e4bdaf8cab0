package overview

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"github.com/tollgatehq/tollgate/internal/subnet"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

// Service keeps the overview of an instance.
type Service struct {
	*Counts
	instance Instance
	clock    clock.Clock
	parts    func(context.Context) []Part

	series      *series
	permissions top[permissionKey]
	users       top[userKey]
	strangers   top[strangerKey]
	limits      uses
}

// The keys of what is counted apart. Who asks is the origin of what others than
// Tollgate name; what is named has a bounded length.
type (
	permissionKey struct {
		source     decision.Source
		askedBy    string
		permission string
	}
	userKey     struct{ askedBy, id, name, apiKeyID string }
	strangerKey struct{ network, ip string }
)

// New starts an overview. Parts says how the instance's parts are.
func New(instance Instance, clk clock.Clock, parts func(context.Context) []Part) *Service {
	counts := NewCounts()
	s := &Service{Counts: counts, instance: instance, clock: clk, parts: parts, series: newSeries(counts, clk.Now())}
	s.permissions.rest = func(k permissionKey) (origin, other permissionKey) {
		origin = permissionKey{source: k.source, askedBy: k.askedBy}
		return origin, origin
	}
	s.users.rest = func(k userKey) (origin, other userKey) {
		return userKey{askedBy: k.askedBy}, userKey{askedBy: k.askedBy}
	}
	s.strangers.rest = func(k strangerKey) (origin, other strangerKey) {
		return strangerKey{network: k.network}, strangerKey{network: k.network, ip: k.network}
	}
	return s
}

// Run takes the samples of the series until ctx ends.
func (s *Service) Run(ctx context.Context) {
	for {
		now := s.clock.Now()
		next := time.NewTimer(s.series.sample(now).Sub(now))
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
		}
	}
}

// Refused takes notice of a decision that refused a call.
func (s *Service) Refused(ctx context.Context, r decision.Request, d decision.Decision) {
	now, askedBy := s.clock.Now(), ""
	if r.Source != decision.SourceAPI {
		askedBy = caller.From(ctx).UserID()
	}
	s.permissions.add(permissionKey{r.Source, askedBy, cut(cmp.Or(r.Rule.Named(), r.Rule.Action))}, now)
	if p := d.Principal; p != nil {
		if r.Source == decision.SourceAPI { // nobody chose whom to ask about
			askedBy = p.UserID
		}
		s.users.add(userKey{askedBy, p.UserID, cut(p.Username), p.APIKeyID}, now)
		return
	}
	s.strangers.add(strangerOf(r.IP), now)
}

func strangerOf(ip netip.Addr) strangerKey {
	if !ip.IsValid() {
		return strangerKey{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	network, _ := ip.Prefix(bits) // fails only for an invalid address
	return strangerKey{network.String(), caller.Network(ip, subnet.Client)}
}

// LimitCounted takes notice of a limit that is near its end.
func (s *Service) LimitCounted(use limits.Use) { s.limits.counted(use, s.clock.Now()) }

// Get returns the overview, with the buckets that begin at since or later.
func (s *Service) Get(ctx context.Context, since time.Time) Overview {
	now := s.clock.Now()
	o := Overview{Instance: s.instance, Time: now, Buckets: s.series.since(since, now), Limits: s.limits.least(listed, now), Parts: s.parts(ctx)}

	permissions, total := s.permissions.most(listed, now)
	o.Refused = total
	for _, p := range permissions {
		o.Permissions = append(o.Permissions, RefusedPermission{p.key.permission, p.key.source, p.key.askedBy, p.Refusals})
	}
	o.Callers = s.callers(now)
	return o
}
