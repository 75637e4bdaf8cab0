package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Every wait for an upstream ends; that for its response is an option.
const (
	dialTime = 5 * time.Second // for a connection, and as long for TLS
	// idleUpstream is less than what common servers keep an idle connection for
	// (5 s is Node.js's), so that they seldom close one that is about to be used.
	idleUpstream = 4 * time.Second
	continueTime = time.Second // for a 100 before the body (RFC 9110 §10.1.1)
	maxAnswer    = 256 << 10   // bytes of a response's headers
)

// transports send requests to upstreams: gRPC over HTTP/2, also in clear text, and
// what else there is as the upstream's TLS negotiates or in HTTP/1.1.
type transports struct {
	any, h2c *http.Transport
}

func newTransports(timeout time.Duration) *transports {
	dialer := &net.Dialer{Timeout: dialTime, ControlContext: checkAddress}
	base := func() *http.Transport {
		return &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    dialTime,
			ResponseHeaderTimeout:  timeout,
			ExpectContinueTimeout:  continueTime,
			IdleConnTimeout:        idleUpstream,
			MaxIdleConns:           1024,
			MaxIdleConnsPerHost:    256,
			MaxResponseHeaderBytes: maxAnswer,
			DisableCompression:     true, // bodies pass as they are
			Protocols:              new(http.Protocols),
			HTTP2: &http.HTTP2Config{
				// A connection is shared by clients: those that do not read fill their
				// own stream's buffer, and are too few to fill the connection's.
				MaxReceiveBufferPerStream:     256 << 10,
				MaxReceiveBufferPerConnection: 256 << 20,
				SendPingTimeout:               pingAfter,
				PingTimeout:                   pingTime,
				WriteByteTimeout:              writeTime,
			},
		}
	}
	t := &transports{any: base(), h2c: base()}
	t.any.Protocols.SetHTTP1(true)
	t.any.Protocols.SetHTTP2(true)
	t.h2c.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// RoundTrip sends a request.
func (t *transports) RoundTrip(r *http.Request) (*http.Response, error) {
	// gRPC-Web is for servers that speak HTTP/1.1, too.
	if r.URL.Scheme == "http" && isGRPC(r) && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc-web") {
		return t.h2c.RoundTrip(r)
	}
	return t.any.RoundTrip(r)
}

// isGRPC says whether a request is one of gRPC or gRPC-Web over HTTP/2. Over HTTP/1.1
// the latter's clients read statuses of HTTP, too.
func isGRPC(r *http.Request) bool {
	return r.ProtoMajor >= 2 && r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

var errRefusedAddress = errors.New("the address is link-local, multicast, unspecified or a cloud's own")

// cloudAddresses are where clouds give a machine its credentials, besides the
// link-local addresses: AWS's over IPv6, Azure's WireServer, Alibaba's.
var cloudAddresses = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("100.100.100.200"),
}

var nat64 = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 §2.1

// checkAddress refuses addresses that no service has. It sees what names resolved
// to: who may write a route, or the DNS, must not read this machine's credentials.
func checkAddress(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !goodAddress(to.Addr()) {
		return errRefusedAddress
	}
	return nil
}

func goodAddress(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	return (ip.IsGlobalUnicast() || ip.IsLoopback()) && !slices.Contains(cloudAddresses, ip)
}

// dialing says whether an error is that of a connection that was not made.
func dialing(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
