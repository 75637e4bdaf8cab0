package caller

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestOfFindsTheClient(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	tests := map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                              {"192.0.2.1:1000", nil, "192.0.2.1"},
		"a stranger's header is not believed":   {"192.0.2.1:1000", []string{"198.51.100.1"}, "192.0.2.1"},
		"a proxy's is":                          {"10.0.0.1:1000", []string{"198.51.100.1"}, "198.51.100.1"},
		"the right-most stranger":               {"10.0.0.1:1000", []string{"203.0.113.9, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"several headers are one list":          {"10.0.0.1:1000", []string{"203.0.113.9", "198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		"a proxy without the header":            {"10.0.0.1:1000", nil, "10.0.0.1"},
		"only proxies":                          {"10.0.0.1:1000", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"rubbish ends the search":               {"10.0.0.1:1000", []string{"198.51.100.1, rubbish"}, "10.0.0.1"},
		"with a port":                           {"10.0.0.1:1000", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		"IPv6":                                  {"[fd00::1]:1000", []string{"2001:db8::7"}, "2001:db8::7"},
		"IPv6 with a port":                      {"[fd00::1]:1000", []string{"[2001:db8::7]:80"}, "2001:db8::7"},
		"IPv4 in IPv6 is IPv4":                  {"[::ffff:192.0.2.1]:1000", nil, "192.0.2.1"},
		"a proxy whose address is IPv4 in IPv6": {"[::ffff:10.0.0.1]:1000", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"a zone does not make another address":  {"[fe80::1%eth0]:1000", nil, "fe80::1"},
		"no address at all":                     {"@", []string{"198.51.100.1"}, "invalid IP"},
	}
	for name, test := range tests {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{"X-Forwarded-For": test.forwarded}}
		if got := Of(r, proxies, func() string { return "" }).IP.String(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
