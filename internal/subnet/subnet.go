// Package subnet says which addresses are one client, once for server and SDK.
package subnet

import "net/netip"

// Of is what a client at a valid address is counted under: IPv4 by itself, also when
// it is written as IPv6 (::ffff:192.0.2.1); IPv6 by its network of so many bits, from
// 0 to 128. Zones do not count.
func Of(ip netip.Addr, bits int) netip.Prefix {
	if ip = ip.Unmap(); ip.Is4() {
		bits = 32
	}
	network, _ := ip.Prefix(bits) // without its zone; fails only for an invalid address
	return network
}

// Client is the number of bits of an IPv6 network that is one client to a limit: the
// least that one customer gets.
const Client = 64
