package limits

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// wide is an override for more keys than one.
type wide struct {
	prefix  string       // of SubjectCustom's keys
	network netip.Prefix // of SubjectIP's addresses
	Override
}

// OverrideKey brings an override's key into the form that it is compared in, and says
// whether it is one that the subject has: also a network for SubjectIP.
func (s Subject) OverrideKey(key string) (string, bool) {
	if canonical, ok := s.canonical(key); ok || s != SubjectIP {
		return canonical, ok
	}
	network, err := netip.ParsePrefix(key)
	if err != nil || network.Addr().Is4In6() || network.Addr().Is6() && network.Bits() > 64 {
		return "", false
	}
	return network.Masked().String(), true
}

// checkWildcard refuses a "*" that stands for nothing.
func (l Limit) checkWildcard(field, key string) error {
	switch at := strings.IndexByte(key, '*'); {
	case at < 0:
		return nil
	case l.Subject != SubjectCustom:
		return fault.Field(field, `has a "*", which stands for any rest only in limits on values of your own (SUBJECT_CUSTOM); `+
			"name each key, or for addresses a network, such as 192.0.2.0/24")
	case at != len(key)-1:
		return fault.Field(field, `has a "*" before its end; only as the last character it stands for any rest`)
	}
	return nil
}

// wideOf is an override for more keys than one; false for one key's.
func (l Limit) wideOf(o Override) (wide, bool) {
	if prefix, ok := strings.CutSuffix(o.Key, "*"); ok && l.Subject == SubjectCustom {
		return wide{prefix: prefix, Override: o}, true
	}
	if network, err := netip.ParsePrefix(o.Key); err == nil && l.Subject == SubjectIP {
		if _, one := parseIPKey(o.Key); !one {
			return wide{network: network, Override: o}, true
		}
	}
	return wide{}, false
}

// override is the key's own, or the longest that fits.
func (r *rule) override(key string) (Override, bool) {
	if o, ok := r.overrides[key]; ok || len(r.wide) == 0 {
		return o, ok
	}
	var ip netip.Addr
	if r.Subject == SubjectIP {
		address, _, _ := strings.Cut(key, "/")
		ip, _ = netip.ParseAddr(address) // invalid for a key that is no address: in no network
	}
	for _, w := range r.wide {
		if r.Subject == SubjectIP && w.network.Contains(ip) || r.Subject == SubjectCustom && strings.HasPrefix(key, w.prefix) {
			return w.Override, true
		}
	}
	return Override{}, false
}

// byLength puts those that fit the fewest keys first.
func byLength(list []wide) {
	slices.SortStableFunc(list, func(a, b wide) int {
		return cmp.Or(cmp.Compare(len(b.prefix), len(a.prefix)), cmp.Compare(b.network.Bits(), a.network.Bits()))
	})
}
