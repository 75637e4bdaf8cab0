package tollgate

import (
	"net/http"
	"net/netip"

	"connectrpc.com/connect"
)

// Require returns middleware that passes a request on when its caller holds
// permission; the handler behind it finds the caller with [FromContext]. The
// credential is read from Authorization: Bearer.
//
// Other requests are answered with 401 for no or a bad credential, 403 without
// the permission, 429 over a limit, and 503 when Tollgate does not decide. The
// body is {"code": "permission_denied", "message": "..."}, with details; 429 and
// 503 carry Retry-After. Answers of calls that count against a limit carry the
// RateLimit and RateLimit-Policy fields.
//
// The path is recorded as the resource. Each edit may change the request to
// Tollgate:
//
//	client.Require("orders:read", func(r *http.Request, q *tollgate.AuthorizeRequest) {
//		q.Resource = "orders/" + r.PathValue("id")
//		q.Context = map[string]string{"tenant": r.PathValue("tenant")}
//	})
//
// Require panics when permission is empty.
func (c *Client) Require(permission string, edit ...func(*http.Request, *AuthorizeRequest)) func(http.Handler) http.Handler {
	if permission == "" {
		panic("tollgate: Require needs a permission")
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := c.newRequest(permission, r.URL.Path, r.RemoteAddr, r.Header)
			for _, change := range edit {
				change(r, &q)
			}
			d, err := c.Authorize(r.Context(), q)
			c.enforce(w, r, next, q.named(), d, err)
		})
	}
}

// enforce passes a request on when d allows it, and answers it otherwise.
func (c *Client) enforce(w http.ResponseWriter, r *http.Request, next http.Handler, permission string, d *Decision, err error) {
	switch {
	case err != nil:
		refuse(w, c.unavailableError(r.Context(), err))
	case !d.Allowed:
		refuse(w, refusal(d, permission))
	default:
		writeLimits(w.Header(), d.Limits)
		next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), d.Principal)))
	}
}

// newRequest describes a call that came from remote with header.
func (c *Client) newRequest(permission, resource, remote string, header http.Header) AuthorizeRequest {
	return AuthorizeRequest{
		Credential: bearer(header), Permission: permission, Resource: resource,
		IP: c.ip(remote, header), UserAgent: header.Get("User-Agent"), RequestID: header.Get("X-Request-Id"),
	}
}

func (c *Client) ip(remote string, header http.Header) netip.Addr {
	var addr netip.Addr
	if peer, err := netip.ParseAddrPort(remote); err == nil {
		addr = peer.Addr().Unmap()
	}
	if c.clientIP != nil {
		return c.clientIP(addr, header)
	}
	return addr
}

// refuse answers in plain HTTP whatever the Content-Type of the request is: a
// caller that claims to speak gRPC would get a 200 otherwise.
func refuse(w http.ResponseWriter, err *connect.Error) {
	_ = connect.NewErrorWriter().Write(w, &http.Request{}, err)
}
