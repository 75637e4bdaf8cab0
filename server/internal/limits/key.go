package limits

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"

	"github.com/tollgatehq/tollgate/internal/subnet"
	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// IPKey is what a valid address is counted under: of IPv6 its /64, which is the
// least that one customer gets.
func IPKey(ip netip.Addr) string { return caller.Network(ip, subnet.Client) }

// parseIPKey reads an address, an IPv6 /64 or an IPv4 /32 as the key it is
// counted under.
func parseIPKey(text string) (string, bool) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return IPKey(ip), true
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return "", false
	}
	ip := network.Addr()
	if ip.Is4() && network.Bits() == 32 || ip.Is6() && !ip.Is4In6() && network.Bits() == 64 {
		return IPKey(ip), true
	}
	return "", false
}

// userIPKey is what a user at an address is counted under: USER@ADDRESS. No
// address holds an "@", so the last one parts the two.
func userIPKey(user string, ip netip.Addr) string { return user + "@" + IPKey(ip) }

// canonical brings a key from a request into the form that it is counted
// under; false when it is not one that the subject has.
func (s Subject) canonical(key string) (string, bool) {
	switch s {
	case SubjectIP:
		return parseIPKey(key)
	case SubjectUserIP:
		at := strings.LastIndexByte(key, '@')
		if at < 1 {
			return "", false
		}
		ip, ok := parseIPKey(key[at+1:])
		return key[:at+1] + ip, ok
	default:
		return key, true
	}
}

// shorten bounds a key of the caller's choice. Short ones stay readable; long
// ones, and those that could choose their place in a Redis Cluster, are
// replaced by their SHA-256. The first byte differs between the two, so no key
// can be written to look like another's.
func shorten(key string) string {
	if len(key) <= 64 && !strings.ContainsAny(key, "{}") {
		return "=" + key
	}
	sum := sha256.Sum256([]byte(key))
	return "#" + base64.RawURLEncoding.EncodeToString(sum[:])
}
