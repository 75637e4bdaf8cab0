package tollgate

import (
	"net/http"
	"net/netip"

	"connectrpc.com/connect"
)

// Require returns middleware that lets a request pass when its caller holds
// permission; a handler behind it finds the caller with FromContext. The
// credential is read from Authorization: Bearer.
//
// What does not pass is answered here: 401 for no or a bad credential, 403
// without the permission, 429 over a limit, and 503 when Tollgate cannot be
// asked. The body is {"code": "permission_denied", "message": "..."}, with
// details; 429 and 503 say in Retry-After when to come back. Answers of calls
// that count against a limit carry the RateLimit and RateLimit-Policy fields.
//
// The path is recorded as the resource. Each edit may change the question
// before it is asked, such as:
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
			q := c.question(permission, r.URL.Path, r.RemoteAddr, r.Header)
			for _, change := range edit {
				change(r, &q)
			}
			d, err := c.Authorize(r.Context(), q)
			if err != nil {
				refuse(w, c.undecided(r.Context(), err))
				return
			}
			if !d.Allowed {
				refuse(w, refusal(d, q.Permission))
				return
			}
			writeLimits(w.Header(), d.Limits)
			next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), d.Principal)))
		})
	}
}

// question is what both doors ask about a request.
func (c *Client) question(permission, resource, remote string, header http.Header) AuthorizeRequest {
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
