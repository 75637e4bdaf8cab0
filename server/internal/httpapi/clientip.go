package httpapi

import (
	"net/http"
	"net/netip"

	"github.com/tollgatehq/tollgate/server/internal/caller"
)

// clientIP is the address that the request came from: the connection's, or,
// when that is a trusted proxy's, the right-most address of X-Forwarded-For
// that is not. What stands left of it, anybody could have written.
func clientIP(r *http.Request, trusted []netip.Prefix) netip.Addr {
	ip := peerIP(r)
	return caller.LastHop(r.Header.Values("X-Forwarded-For"), ip, trusted, caller.IsTrusted(ip, trusted))
}

// peerIP is the address of the connection; the zero Addr when it has none.
func peerIP(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap().WithZone("")
}
