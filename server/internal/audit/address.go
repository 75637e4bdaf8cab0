package audit

import (
	"net/netip"

	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// ParseNetwork reads an address, 203.0.113.7, or a network, 203.0.113.0/24 or
// 2001:db8::/32; the zero Prefix for an empty text. An IPv4 address or network that is
// written as IPv6, ::ffff:203.0.113.7, is the IPv4 one. What a network's text says
// beyond its length does not count.
func ParseNetwork(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err == nil && network.Addr().Is4In6() {
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
	}
	if err != nil || !network.IsValid() { // shorter than ::ffff:0:0/96
		return netip.Prefix{}, fault.Field("address", "must be an address or a network: 203.0.113.7, 203.0.113.0/24, 2001:db8::1, 2001:db8::/32")
	}
	return network.Masked(), nil
}

// address is an event's address, invalid for a text that is none. IPv4 is IPv4
// however it was written, and zones do not count.
func address(ip string) netip.Addr {
	parsed, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Addr{}
	}
	return parsed.Unmap().WithZone("")
}

// endsOf are a network's first and last address in the form in which audit_leaves has
// addresses.
func endsOf(network netip.Prefix) (first, last string) {
	end := network.Addr().AsSlice()
	for bit := network.Bits(); bit < len(end)*8; bit++ {
		end[bit/8] |= 0x80 >> (bit % 8)
	}
	highest, _ := netip.AddrFromSlice(end)
	return tree.Address(network.Addr().String()), tree.Address(highest.String())
}
