package httpapi

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientIP is the address that the request came from: the connection's, or,
// when that is a trusted proxy's, the right-most address of X-Forwarded-For
// that is not. What stands left of it, anybody could have written.
func clientIP(r *http.Request, trusted []netip.Prefix) netip.Addr {
	ip := peerIP(r)
	return lastHop(r.Header, ip, trusted, isTrusted(ip, trusted))
}

// peerIP is the address of the connection; the zero Addr when it has none.
func peerIP(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// lastHop walks X-Forwarded-For from the right, from ip on, past those that are
// trusted; believed says whether ip is.
func lastHop(header http.Header, ip netip.Addr, trusted []netip.Prefix, believed bool) netip.Addr {
	hops := strings.Split(strings.Join(header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && believed; i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break // the proxy wrote nothing usable: it is the last we know
		}
		ip, believed = hop, isTrusted(hop, trusted)
	}
	return ip
}

// parseHop reads "192.0.2.1", "192.0.2.1:80", "2001:db8::1" and "[2001:db8::1]:80".
func parseHop(text string) (netip.Addr, error) {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap().WithZone(""), nil
	}
	ip, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return ip.Unmap().WithZone(""), err
}

func isTrusted(ip netip.Addr, trusted []netip.Prefix) bool {
	for _, prefix := range trusted {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}
