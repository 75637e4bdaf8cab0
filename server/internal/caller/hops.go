package caller

import (
	"net/http"
	"net/netip"
	"strings"
)

const maxUserAgent = 512

// Of is the origin of a request to one of our own ports. newID makes an id for a
// request without a good one.
func Of(r *http.Request, trusted []netip.Prefix, newID func() string) Caller {
	peer := PeerIP(r)
	return New(Connection{IP: peer, Trusted: IsTrusted(peer, trusted)},
		r.Header.Values("X-Forwarded-For"), r.UserAgent(), r.Header.Get("X-Request-Id"), trusted, newID)
}

// Connection is what is known of the peer of a connection.
type Connection struct {
	IP      netip.Addr // the zero Addr when it has none
	Trusted bool       // it is one of the trusted proxies
}

// New is Of for a call over a connection with these headers.
func New(peer Connection, forwardedFor []string, userAgent, requestID string, trusted []netip.Prefix, newID func() string) Caller {
	c := Caller{TrustedPeer: peer.Trusted, UserAgent: userAgent, RequestID: requestID, IP: peer.IP}
	if peer.Trusted {
		c.IP = LastHop(forwardedFor, peer.IP, trusted, true)
	}
	if len(c.UserAgent) > maxUserAgent {
		c.UserAgent = c.UserAgent[:maxUserAgent]
	}
	if !GoodRequestID(c.RequestID) {
		c.RequestID = newID()
	}
	return c
}

// PeerIP is the address of a request's connection; the zero Addr when it has none.
func PeerIP(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}

// LastHop walks the values of X-Forwarded-For from the right, from ip on, past
// those that are trusted; believed says whether ip is. What stands left of the
// address that it returns, anybody could have written.
func LastHop(forwardedFor []string, ip netip.Addr, trusted []netip.Prefix, believed bool) netip.Addr {
	hops := strings.Split(strings.Join(forwardedFor, ","), ",")
	for i := len(hops) - 1; i >= 0 && believed; i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break // the proxy wrote nothing usable: it is the last we know
		}
		ip, believed = hop, IsTrusted(hop, trusted)
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

// IsTrusted says whether an address is one of the trusted proxies'.
func IsTrusted(ip netip.Addr, trusted []netip.Prefix) bool {
	for _, prefix := range trusted {
		if prefix.Contains(ip) {
			return true
		}
	}
	return false
}

const maxRequestID = 128

// GoodRequestID says whether the id that somebody sent can be the request's: 1 to
// 128 letters, digits, ".", "_" and "-".
func GoodRequestID(id string) bool {
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return id != "" && len(id) <= maxRequestID
}
