package routes

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// The bounds of a host name, in bytes (RFC 1035 §2.3.4).
const (
	maxHost  = 253
	maxLabel = 63
)

// canonicalHost is a request's host as routes have it: lower case, without port,
// brackets and the dot at the end, and whether it is an IP address. Empty stays
// empty. The error is HOST_REFUSED for what is neither a name nor an address.
func canonicalHost(host string) (name string, ip bool, err error) {
	if host == "" {
		return "", false, nil
	}
	name, ip, ok := parseHost(host)
	if !ok {
		return "", false, fault.New(fault.Invalid, "HOST_REFUSED", "the host is neither a name nor an IP address, maybe with a port")
	}
	return name, ip, nil
}

func parseHost(host string) (name string, ip, ok bool) {
	if strings.HasPrefix(host, "[") {
		inside, port, found := strings.Cut(host[1:], "]")
		addr, err := netip.ParseAddr(inside)
		if !found || err != nil || !addr.Is6() || addr.Zone() != "" || port != "" && (port[0] != ':' || !validPort(port[1:])) {
			return "", false, false
		}
		return addr.Unmap().String(), true, true
	}
	name, port, found := strings.Cut(host, ":")
	if found && !validPort(port) {
		return "", false, false
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	ip, ok = validName(name)
	return name, ip, ok
}

// validPort takes the empty port as well (RFC 3986 §3.2.3).
func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && len(port) <= 5 && n > 0
}

// validName says whether a lower-case text is a name of labels of letters, digits,
// "-" and "_", and whether it is an IPv4 address. A name whose last label is a
// number is no name: URL parsers take it for an address ("127.1", "0x7f000001").
func validName(name string) (ip, ok bool) {
	if name == "" || len(name) > maxHost {
		return false, false
	}
	var last string
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel {
			return false, false
		}
		for i := range len(label) {
			switch c := label[i]; {
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return false, false
			}
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "" {
		addr, err := netip.ParseAddr(name)
		return true, err == nil && addr.Is4()
	}
	return false, true
}

// hostPattern is what a route may have as its host.
func hostPattern(host string) (string, error) {
	if host == "" {
		return "", nil
	}
	const field = "host"
	if below, ok := strings.CutPrefix(host, "*."); ok {
		name, ip, ok := parseHost(below)
		if !ok || ip || strings.Contains(below, ":") {
			return "", fault.Field(field, `must be a name after "*.", without a port: "*.example.com"`)
		}
		return "*." + name, nil
	}
	address := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]") // IPv6 with brackets or without
	if addr, err := netip.ParseAddr(address); err == nil && addr.Zone() == "" {
		return addr.Unmap().String(), nil
	}
	name, _, ok := parseHost(host)
	if !ok || strings.Contains(host, ":") {
		return "", fault.Field(field, `must be a name or an IP address without a port, "*.example.com" for all names below, or empty for any`)
	}
	return name, nil
}
