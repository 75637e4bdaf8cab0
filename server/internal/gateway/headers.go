package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// rewrite makes the request that the upstream gets: the path that was decided
// about, byte for byte, the client's headers without those that say what only the
// gateway knows, and what it knows.
func (g *Gateway) rewrite(p *httputil.ProxyRequest) {
	x, in, out := exchangeOf(p.In), p.In, p.Out
	scheme, host, _ := strings.Cut(x.upstream, "://")
	// Opaque goes out as it is; a Path might be escaped again, another way.
	out.URL = &url.URL{Scheme: scheme, Host: host, Opaque: x.asked.Path, RawQuery: in.URL.RawQuery, ForceQuery: in.URL.ForceQuery}
	out.Host = in.Host
	out.Trailer = nil

	h := out.Header
	public := x.answer.Route.Public
	for name := range h {
		if ours(name, public) {
			delete(h, name)
		}
	}
	if out.Header.Get("Upgrade") != "" && !strings.EqualFold(out.Header.Get("Upgrade"), "websocket") {
		// What follows an upgrade is not decided about. After h2c that would be
		// requests of any path.
		delete(h, "Upgrade")
		delete(h, "Connection")
	}
	for _, identity := range x.identity {
		h[identity.Name] = []string{identity.Value}
	}
	if x.from.TrustedPeer {
		h["X-Forwarded-For"] = slices.Clone(in.Header["X-Forwarded-For"])
	}
	p.SetXForwarded()
	if proto := in.Header.Get("X-Forwarded-Proto"); x.from.TrustedPeer && (proto == "http" || proto == "https") {
		h["X-Forwarded-Proto"] = []string{proto}
	}
	h["X-Request-Id"] = []string{x.from.RequestID}
	h["Via"] = append(slices.Clone(in.Header["Via"]), fmt.Sprintf("%d.%d %s", in.ProtoMajor, in.ProtoMinor, g.pseudonym))
}

// newPseudonym is a name for Via that no other gateway has.
func newPseudonym() string {
	var b [8]byte
	rand.Read(b[:])
	return "tollgate-" + hex.EncodeToString(b[:])
}

// The headers of a client's that never reach a service, in the form of normal:
// they say what was asked for, from where or by whom, which the gateway says
// itself, or have the service do something else than what was decided about.
var (
	oursExactly = map[string]bool{
		"forwarded": true, "host": true, "x-request-id": true,
		"x-real-ip": true, "x-client-ip": true, "x-cluster-client-ip": true, "true-client-ip": true, "cf-connecting-ip": true, "fastly-client-ip": true,
		"x-rewrite-url": true, "x-http-method": true, "x-http-method-override": true, "x-method-override": true,
		"http2-settings": true, "proxy": true, // https://httpoxy.org
	}
	oursByPrefix = []string{"x-forwarded-", "x-original-"}
)

const longestHeader = 128 // of those that are looked at

// ours says whether a header of a client's stays here. The credential goes on to
// public services only, which may have ones of their own.
func ours(name string, public bool) bool {
	var normal [longestHeader]byte
	n := normalize(&normal, name)
	switch string(normal[:n]) {
	case "authorization", "x-api-key":
		return !public
	}
	if oursExactly[string(normal[:n])] {
		return true
	}
	for _, prefix := range oursByPrefix {
		if strings.HasPrefix(string(normal[:n]), prefix) {
			return true
		}
	}
	return enforce.IsIdentity(string(normal[:n]))
}

// normalize writes a header's name in lower case with "-" for all that is neither
// a letter nor a digit, cut to the longest that matters: to CGI and its heirs
// those are one character (RFC 3875 §4.1.18).
func normalize(to *[longestHeader]byte, name string) int {
	n := min(len(name), len(to))
	for i := range n {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case ('a' > c || c > 'z') && ('0' > c || c > '9'):
			c = '-'
		}
		to[i] = c
	}
	return n
}

// answers are the headers of an upstream's that are ours to send: an identity that
// it repeats is the service's only, and an alternative service (RFC 7838) would be
// one without a gateway.
func cleanAnswer(h http.Header) {
	for name := range h {
		if len(name) >= len("tollgate-") && isAnswer(name) {
			delete(h, name)
		}
	}
	delete(h, "Alt-Svc")
}

func isAnswer(name string) bool {
	var normal [longestHeader]byte
	text := string(normal[:normalize(&normal, name)])
	return strings.HasPrefix(text, "tollgate-") || strings.HasPrefix(text, "x-tollgate-")
}

// modifyResponse makes the response that the client gets.
func (g *Gateway) modifyResponse(res *http.Response) error {
	x := exchangeOf(res.Request)
	cleanAnswer(res.Header)
	res.Header["X-Request-Id"] = []string{x.from.RequestID}
	guard.WriteLimits(res.Header, x.answer.Limits)
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.endWithServer()
		return nil
	}
	if res.Header["Cache-Control"] == nil && !x.answer.Route.Public {
		// The service does not see the credential that makes a response one caller's
		// (RFC 9111 §3.5).
		res.Header["Cache-Control"] = []string{"private"}
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		x.endWithServer()
	}
	x.streaming.Store(x.grpc)
	res.Body = &answerBody{ReadCloser: res.Body, exchange: x, response: res, bounded: res.ContentLength > 0}
	return nil
}

// writeGRPCTrailers says why a call ended whose response has begun.
func writeGRPCTrailers(h http.Header, f *fault.Error) {
	h.Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(int(f.Kind.Code())))
	h.Set(http.TrailerPrefix+"Grpc-Message", url.PathEscape(f.Message))
}
