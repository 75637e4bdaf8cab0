package tollgate

import (
	"context"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Interceptor returns an interceptor for Connect handlers. It enforces the
// (tollgate.v1.guard) option of each RPC:
//
//   - permission: the caller needs it; see [Client.Authorize]. With self, a
//     person who is signed in as the user whose id the request's field holds needs
//     no permission. Self has no effect on streams, whose first message is not
//     read before the decision.
//   - authenticated: any good credential is enough; limits that match the
//     option's action count, or "authenticated" when it has none.
//   - self_only: only the person who is signed in as the user whose id the
//     request's field holds; limits count as for authenticated.
//   - public: every call passes, without a call to Tollgate.
//   - no option: every call is refused.
//
// With cost, limits count a call once for each entry of the request's list.
//
// A handler finds the caller with [FromContext]. Refused calls fail with
// Unauthenticated, PermissionDenied or ResourceExhausted, and with Unavailable
// when Tollgate does not decide. The error has a google.rpc.ErrorInfo with the
// reason, and a google.rpc.RetryInfo when waiting helps. Over the Connect
// protocol the status and the headers are those of [Client.Require].
//
// The caller of a stream is checked again while it lasts, at least as often as
// [WithRecheck] says. The stream ends with Unauthenticated or PermissionDenied
// when the credential or the permission is gone, and with Unavailable when
// Tollgate did not decide for so long: its context ends, and it sends and
// receives nothing more.
//
// Make it the first interceptor, so that the others do no work for a caller who
// is refused.
func (c *Client) Interceptor() connect.Interceptor { return &interceptor{client: c} }

// Interceptor returns an interceptor like [Client.Interceptor] that decides
// about RPCs with the rule authenticated in this process, as
// [Verifier.Authenticate] does, and ends a stream as soon as its caller's
// credential is revoked.
func (v *Verifier) Interceptor() connect.Interceptor {
	return &interceptor{client: v.client, verifier: v}
}

type interceptor struct {
	client   *Client
	verifier *Verifier // nil: none
}

func (i *interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().IsClient {
			return next(ctx, req)
		}
		q, err := i.newRequest(req.Spec(), req.Peer(), req.Header(), req.Any())
		if err != nil {
			return nil, err
		}
		d, err := i.decide(ctx, q)
		if err != nil {
			return nil, err
		}
		res, err := next(NewContext(ctx, d.Principal), req)
		if err != nil {
			return nil, err
		}
		writeLimits(res.Header(), d.Limits)
		return res, nil
	}
}

func (i *interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		q, err := i.newRequest(conn.Spec(), conn.Peer(), conn.RequestHeader(), nil)
		if err != nil {
			return err
		}
		d, err := i.decide(ctx, q)
		if err != nil {
			return err
		}
		ctx = NewContext(ctx, d.Principal)
		if q == nil {
			return next(ctx, conn)
		}
		writeLimits(conn.ResponseHeader(), d.Limits)
		ctx, stop := i.watch(ctx, *q, d.Principal)
		defer stop()
		err = next(ctx, watchedConn{conn, ctx})
		if refused := refusedBy(ctx); refused != nil {
			return refused
		}
		return err
	}
}

func (i *interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// newRequest returns what to ask Tollgate about a call, of which a stream has no
// message; nil when its RPC is public.
func (i *interceptor) newRequest(spec connect.Spec, peer connect.Peer, header http.Header, message any) (*AuthorizeRequest, error) {
	guard := guardOf(spec)
	request := func(permission string) *AuthorizeRequest {
		q := i.client.newRequest(permission, strings.TrimPrefix(spec.Procedure, "/"), peer.Addr, header)
		q.Cost = entries(message, guard.GetCost())
		return &q
	}
	switch rule := guard.GetRule().(type) {
	case *tollgatev1.Guard_Public:
		if rule.Public {
			return nil, nil
		}
	case *tollgatev1.Guard_Authenticated:
		if rule.Authenticated {
			q := request(guard.GetAction())
			q.Authenticated = true
			return q, nil
		}
	case *tollgatev1.Guard_SelfOnly:
		if rule.SelfOnly != "" {
			q := request(guard.GetAction())
			q.SelfOnly, q.Self = true, textField(message, rule.SelfOnly)
			return q, nil
		}
	case *tollgatev1.Guard_Permission:
		if rule.Permission != "" {
			q := request(rule.Permission)
			q.Self = textField(message, guard.GetSelf())
			return q, nil
		}
	}
	return nil, newError(connect.CodePermissionDenied, "NO_GUARD",
		spec.Procedure+" cannot be called: its service must give it the option (tollgate.v1.guard)", 0)
}

// decide returns the decision about a call that may go ahead; its Principal is
// nil when the RPC is public.
func (i *interceptor) decide(ctx context.Context, q *AuthorizeRequest) (*Decision, error) {
	if q == nil {
		return &Decision{Allowed: true}, nil
	}
	d, err := i.authorize(ctx, *q)
	switch {
	case err != nil:
		return nil, i.client.unavailableError(ctx, err)
	case !d.Allowed:
		return nil, refusal(d, q.named())
	}
	return d, nil
}

func (i *interceptor) authorize(ctx context.Context, q AuthorizeRequest) (*Decision, error) {
	switch {
	case !q.Authenticated:
		return i.client.Authorize(ctx, q)
	case i.verifier != nil:
		return i.verifier.decide(ctx, q)
	case q.Credential == "": // no guess to count
		return &Decision{Reason: ReasonCredentialMissing}, nil
	}
	return i.client.Authorize(ctx, q)
}

// entries is how many entries the message's list has; 0 for no such list.
func entries(message any, field string) int64 {
	m, ok := message.(proto.Message)
	if !ok || field == "" {
		return 0
	}
	if f := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field)); f != nil && f.IsList() {
		return int64(m.ProtoReflect().Get(f).List().Len())
	}
	return 0
}

// guardOf returns the option of an RPC; nil when there is none.
func guardOf(spec connect.Spec) *tollgatev1.Guard {
	method, ok := spec.Schema.(protoreflect.MethodDescriptor)
	if !ok {
		return nil
	}
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	if !ok {
		return nil
	}
	guard, _ := proto.GetExtension(options, tollgatev1.E_Guard).(*tollgatev1.Guard)
	return guard
}

// textField returns the value of a message's string field; empty when there is
// no such field.
func textField(message any, name string) string {
	m, ok := message.(proto.Message)
	if !ok || name == "" {
		return ""
	}
	field := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
	if field == nil || field.Kind() != protoreflect.StringKind || field.Cardinality() == protoreflect.Repeated {
		return ""
	}
	return m.ProtoReflect().Get(field).String()
}
