package limits

import (
	"net/netip"
	"testing"
)

func TestIPKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"192.0.2.1/32", "192.0.2.1"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"2001:db8:1:2::", "2001:db8:1:2::/64"},
		{"2001:DB8:1:2::9/64", "2001:db8:1:2::/64"},
		{"fe80::1%eth0", "fe80::/64"},
		{"2001:db8:1:2::/48", ""},
		{"2001:db8:1:2::/128", ""},
		{"192.0.2.0/24", ""},
		{"::ffff:192.0.2.1/64", ""},
		{"alice", ""},
		{"", ""},
	} {
		got, ok := parseIPKey(c.text)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%q is %q %v, want %q", c.text, got, ok, c.want)
		}
		if ip, err := netip.ParseAddr(c.text); err == nil && IPKey(ip) != c.want {
			t.Errorf("%q counts under %q, want %q", c.text, IPKey(ip), c.want)
		}
	}
}
