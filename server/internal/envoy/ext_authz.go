package envoy

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

// extensions is how a route's context_extensions say what a request needs.
var extensions = enforce.Form{In: "context_extensions", Context: true}

// Check decides about a client's request. It is allowed with status 0 alone. A
// refusal is an answer with the status and body for the client. The error is
// Invalid, BAD_PROXY_REQUEST, for a configuration that cannot be, and else says
// that nothing could be decided.
func (h *Handler) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	attributes := r.GetAttributes()
	if attributes.GetRequest().GetHttp() == nil {
		return nil, enforce.BadRequest("there is no request in attributes.request.http: this decides about HTTP; use the HTTP filter")
	}
	question, err := extensions.Read(attributes.GetContextExtensions())
	if err != nil {
		return nil, err
	}
	sent := headersOf(attributes.GetRequest().GetHttp())
	asked, err := h.request(ctx, question, attributes, &sent)
	if err != nil {
		return refused(err, asked.RequestID, nil)
	}
	answer, err := h.Enforce.Decide(ctx, asked)
	if err != nil {
		return refused(err, asked.RequestID, answer.Limits)
	}
	identity, err := h.Enforce.Identity(answer, question.Flavor)
	if err != nil {
		return nil, err
	}
	for _, header := range identity {
		if header.Value == "" { // Envoy would drop it, and leave the client's own
			return nil, fmt.Errorf("the identity header %s is empty", header.Name)
		}
	}
	return allowed(identity, sent.identity, answer.Limits), nil
}

// request is the client's request, as Envoy describes it. The error is about what
// the client sent.
func (h *Handler) request(ctx context.Context, q enforce.Question, a *authv3.AttributeContext, sent *headers) (enforce.Request, error) {
	described := a.GetRequest().GetHttp()
	path, _, _ := strings.Cut(described.GetPath(), "?")
	asked := enforce.Request{
		Source: decision.SourceExtAuthz, Needs: q.Needs, Audience: q.Audience,
		Credential: enforce.CredentialOf(sent.authorization, sent.apiKey),
		Method:     described.GetMethod(), Host: described.GetHost(), Path: path,
		IP: h.client(a, sent), UserAgent: first(sent.userAgent), RequestID: first(sent.requestID),
	}
	if len(asked.UserAgent) > maxUserAgent {
		asked.UserAgent = asked.UserAgent[:maxUserAgent]
	}
	if !caller.GoodRequestID(asked.RequestID) {
		if asked.RequestID = described.GetId(); !caller.GoodRequestID(asked.RequestID) {
			asked.RequestID = caller.From(ctx).RequestID
		}
	}
	switch {
	case path == "" && asked.Method != http.MethodConnect:
		return asked, enforce.BadRequest("the request has no path")
	// Envoy replaces in the path what is not UTF-8, which is no more what it sends on.
	case slices.ContainsFunc(sent.path, func(raw string) bool { return raw != described.GetPath() }):
		return asked, enforce.BadRequest("the path has bytes that are not UTF-8, or is another one in its header")
	}
	return asked, nil
}

const maxUserAgent = 512 // bytes

// client is the address of the request's origin: the connection's to Envoy, or,
// when that is a trusted proxy's, the right-most of X-Forwarded-For that is not.
func (h *Handler) client(a *authv3.AttributeContext, sent *headers) netip.Addr {
	ip, err := netip.ParseAddr(a.GetSource().GetAddress().GetSocketAddress().GetAddress())
	if err != nil {
		return netip.Addr{} // a pipe
	}
	ip = ip.Unmap().WithZone("")
	return caller.LastHop(sent.forwardedFor, ip, h.TrustedProxies, caller.IsTrusted(ip, h.TrustedProxies))
}

// headers are those of a client's headers that matter, each value by itself.
type headers struct {
	authorization, apiKey, userAgent, requestID, forwardedFor, path []string

	identity []string // the names, in lower case, of those that say who somebody is
}

// headersOf reads the map, in which Envoy joins values with commas, and the list
// with the bytes as they were sent (encode_raw_headers).
func headersOf(r *authv3.AttributeContext_HttpRequest) headers {
	var h headers
	for name, value := range r.GetHeaders() {
		h.add(name, value)
	}
	for _, header := range r.GetHeaderMap().GetHeaders() {
		if raw := header.GetRawValue(); len(raw) > 0 {
			h.add(header.GetKey(), string(raw))
		} else {
			h.add(header.GetKey(), header.GetValue())
		}
	}
	return h
}

func (h *headers) add(name, value string) {
	name = strings.ToLower(name)
	switch name {
	case "authorization":
		h.authorization = append(h.authorization, value)
	case "x-api-key":
		h.apiKey = append(h.apiKey, value)
	case "user-agent":
		h.userAgent = append(h.userAgent, value)
	case "x-request-id":
		h.requestID = append(h.requestID, value)
	case "x-forwarded-for":
		h.forwardedFor = append(h.forwardedFor, value)
	case ":path":
		h.path = append(h.path, value)
	default:
		if enforce.IsIdentity(name) {
			h.identity = append(h.identity, name)
		}
	}
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// allowed lets the request go on, with our identity headers in place of the
// client's, and tells the client where its limits stand.
func allowed(identity []enforce.Header, sent []string, all []limits.Status) *authv3.CheckResponse {
	ok := &authv3.OkHttpResponse{Headers: make([]*corev3.HeaderValueOption, 0, len(identity))}
	for _, header := range identity {
		ok.Headers = append(ok.Headers, overwrite(field{strings.ToLower(header.Name), header.Value}))
	}
	// Envoy removes after it has set: what was set is not to be in the list.
	remove := func(name string) {
		is := func(set *corev3.HeaderValueOption) bool { return set.GetHeader().GetKey() == name }
		if !slices.ContainsFunc(ok.Headers, is) && !slices.Contains(ok.HeadersToRemove, name) {
			ok.HeadersToRemove = append(ok.HeadersToRemove, name)
		}
	}
	for _, name := range ours {
		remove(name)
	}
	for _, name := range sent {
		remove(name)
	}
	for _, f := range fields(http.Header{}, all) {
		ok.ResponseHeadersToAdd = append(ok.ResponseHeadersToAdd, overwrite(f))
	}
	return &authv3.CheckResponse{
		Status:       &status.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}
}

// ours are the names, in lower case, of headers that a client may not have written.
var ours = func() []string {
	names := []string{strings.ToLower(guard.ProxyKey)}
	for _, name := range enforce.IdentityNames() {
		names = append(names, strings.ToLower(name))
	}
	return names
}()

// refused is the answer for a request that may not go on. Every other error is
// one: nothing is known.
func refused(err error, requestID string, all []limits.Status) (*authv3.CheckResponse, error) {
	f := fault.From(err)
	switch f.Kind {
	case fault.Unauthenticated, fault.Denied, fault.Limited, fault.Invalid:
	default:
		return nil, err
	}
	wire := fault.Connect(f, requestID)
	header := http.Header{"Content-Type": {jsonType}, "X-Request-Id": {requestID}}
	header.Set("WWW-Authenticate", challenge(wire.Meta().Get("WWW-Authenticate")))
	header.Set("Retry-After", wire.Meta().Get("Retry-After"))
	denied := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(f.Kind.Status())},
		Body:   string(fault.NewWire(wire).JSON()),
	}
	for _, f := range fields(header, all, "Content-Type", "X-Request-Id", "WWW-Authenticate", "Retry-After") {
		denied.Headers = append(denied.Headers, overwrite(f))
	}
	return &authv3.CheckResponse{
		Status:       &status.Status{Code: int32(f.Kind.Code()), Message: f.Message},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
	}, nil
}

// challenge names the realm, which some clients want to see (RFC 9110 §11.5).
func challenge(text string) string {
	rest, ok := strings.CutPrefix(text, "Bearer")
	switch {
	case !ok:
		return text
	case rest == "":
		return `Bearer realm="tollgate"`
	default:
		return `Bearer realm="tollgate",` + rest
	}
}

// overwrite is a header that replaces what is there: by default Envoy would add a
// second value, and the client's own would come first.
func overwrite(f field) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: f.name, Value: f.value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
