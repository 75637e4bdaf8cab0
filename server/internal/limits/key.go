package limits

import (
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
)

// ipKey is what an address is counted under: IPv4 by itself, also when it is
// written as IPv6 (::ffff:192.0.2.1); IPv6 by its /64, which is the least that
// one customer gets; never with a zone.
func ipKey(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, _ := ip.Prefix(64) // fails only for an invalid address
	return network.String()
}

// parseIPKey reads an address, an IPv6 /64 or an IPv4 /32 as the key it is
// counted under.
func parseIPKey(text string) (string, bool) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return ipKey(ip), true
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return "", false
	}
	ip := network.Addr()
	if ip.Is4() && network.Bits() == 32 || ip.Is6() && !ip.Is4In6() && network.Bits() == 64 {
		return ipKey(ip), true
	}
	return "", false
}

// shorten bounds a key of the caller's choice. Short ones stay readable; long
// ones, and those that could choose their place in a Redis Cluster, are
// replaced by their SHA-256. The first byte tells the two apart, so no key can
// be written to look like another's.
func shorten(key string) string {
	if len(key) <= 64 && !strings.Contains(key, "{") {
		return "=" + key
	}
	sum := sha256.Sum256([]byte(key))
	return "#" + base64.RawURLEncoding.EncodeToString(sum[:])
}
