package guard

import (
	"net/netip"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
)

// surelyValid says of the messages that services send all the time whether they keep
// the contract's rules, without reflection and CEL, which take 5 to 10 µs. False is
// no verdict: protovalidate judges those, so that every error is its own. A test
// compares the two, and fails when a message gets a field that is not looked at here.
func surelyValid(m proto.Message) bool {
	switch m := m.(type) {
	case *tollgatev1.AuthorizeRequest:
		return authorizeValid(m)
	case *tollgatev1.BatchAuthorizeRequest:
		if n := len(m.GetRequests()); n < 1 || n > 100 {
			return false
		}
		for _, one := range m.GetRequests() {
			if !authorizeValid(one) {
				return false
			}
		}
		return true
	case *tollgatev1.VerifyRequest:
		return verifyValid(m)
	case *tollgatev1.CheckLimitRequest:
		return m.GetLimit() != "" && len(m.GetLimit()) <= 64 && len(m.GetKey()) <= 256 && costValid(m.GetCost()) && len(m.GetIdempotencyKey()) <= 64
	default:
		return false
	}
}

// Lengths are compared in bytes, of which a text has at least as many as characters.

func authorizeValid(m *tollgatev1.AuthorizeRequest) bool {
	if len(m.GetAnyOf()) > 0 || len(m.GetAllOf()) > 0 || !ownPermission(m.GetPermission()) {
		return false
	}
	switch c := m.GetCredential().(type) {
	case nil:
	case *tollgatev1.AuthorizeRequest_AccessToken:
		if len(c.AccessToken) > 8192 {
			return false
		}
	case *tollgatev1.AuthorizeRequest_ApiKey:
		if len(c.ApiKey) > 256 {
			return false
		}
	default: // a user id, which is a UUID
		return false
	}
	if len(m.GetContext()) > 32 {
		return false
	}
	for key, value := range m.GetContext() {
		if key == "" || len(key) > 64 || len(value) > 256 {
			return false
		}
	}
	return len(m.GetResource()) <= 256 && clientValid(m.GetClient()) && costValid(m.GetCost()) && m.GetMinRevision() >= 0 &&
		len(m.GetSelf()) <= 64 && len(m.GetIdempotencyKey()) <= 64
}

func clientValid(c *tollgatev1.Client) bool {
	if ip := c.GetIp(); ip != "" {
		if address, err := netip.ParseAddr(ip); err != nil || address.Zone() != "" {
			return false
		}
	}
	return len(c.GetUserAgent()) <= 512 && len(c.GetRequestId()) <= 128
}

func verifyValid(m *tollgatev1.VerifyRequest) bool {
	switch c := m.GetCredential().(type) {
	case *tollgatev1.VerifyRequest_AccessToken:
		return c.AccessToken != "" && len(c.AccessToken) <= 8192 && m.GetMinRevision() >= 0
	case *tollgatev1.VerifyRequest_ApiKey:
		return c.ApiKey != "" && len(c.ApiKey) <= 256 && m.GetMinRevision() >= 0
	default:
		return false
	}
}

func costValid(cost int64) bool { return cost >= 0 && cost <= 1_000_000 }

// ownPermission is ^([a-z0-9._-]+:){0,7}[a-z0-9._-]+$ in at most 128 bytes, and not
// under "tollgate:".
func ownPermission(p string) bool {
	if len(p) > 128 || strings.HasPrefix(p, "tollgate:") {
		return false
	}
	segments, length := 1, 0
	for i := range len(p) {
		switch c := p[i]; {
		case c == ':':
			if length == 0 {
				return false
			}
			segments, length = segments+1, 0
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
			length++
		default:
			return false
		}
	}
	return length > 0 && segments <= 8
}
