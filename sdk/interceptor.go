package sdk

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

// Interceptor returns an interceptor for Connect handlers. It does what the
// (tollgate.v1.guard) option of each RPC says:
//
//   - permission: the caller needs it; see Authorize. With self, a person who
//     is signed in and whose own id the request's field holds passes without it
//     and without being counted. Streams have no self, because their first
//     message is yet to come.
//   - authenticated: any good credential will do; see Verify. Nothing counts.
//   - public: everybody passes, and Tollgate is not asked.
//   - none: nobody passes.
//
// A handler finds the caller with PrincipalFrom. A stream's caller is looked at
// once, when it begins.
//
// What does not pass fails with Unauthenticated, PermissionDenied or
// ResourceExhausted, and with Unavailable when Tollgate cannot be asked. The
// error has a google.rpc.ErrorInfo with the reason, and a google.rpc.RetryInfo
// when waiting helps. Over the Connect protocol these errors have the same
// status and headers as those of Require.
//
// Put it first, so that nothing works for a caller who is refused.
func (c *Client) Interceptor() connect.Interceptor { return &interceptor{c} }

type interceptor struct{ client *Client }

// call is what unary calls and streams have in common.
type call struct {
	spec    connect.Spec
	peer    connect.Peer
	header  http.Header
	message any // nil for a stream
}

func (i *interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().IsClient {
			return next(ctx, req)
		}
		d, err := i.decide(ctx, call{req.Spec(), req.Peer(), req.Header(), req.Any()})
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
		d, err := i.decide(ctx, call{conn.Spec(), conn.Peer(), conn.RequestHeader(), nil})
		if err != nil {
			return err
		}
		writeLimits(conn.ResponseHeader(), d.Limits)
		return next(NewContext(ctx, d.Principal), conn)
	}
}

func (i *interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// decide returns the decision for a call that may go ahead; its Principal is
// nil when the RPC is public.
func (i *interceptor) decide(ctx context.Context, c call) (*Decision, error) {
	guard := guardOf(c.spec)
	switch rule := guard.GetRule().(type) {
	case *tollgatev1.Guard_Public:
		if rule.Public {
			return &Decision{Allowed: true}, nil
		}
	case *tollgatev1.Guard_Authenticated:
		if rule.Authenticated {
			return i.authenticate(ctx, c)
		}
	case *tollgatev1.Guard_Permission:
		if rule.Permission != "" {
			return i.authorize(ctx, c, rule.Permission, guard.GetSelf())
		}
	}
	return nil, told(connect.CodePermissionDenied, "NO_GUARD",
		"nobody may call "+c.spec.Procedure+": it has no option (tollgate.v1.guard)", 0)
}

func (i *interceptor) authenticate(ctx context.Context, c call) (*Decision, error) {
	v, err := i.client.Verify(ctx, bearer(c.header))
	if err != nil {
		return nil, i.client.undecided(ctx, err)
	}
	if !v.good() {
		return nil, refusal(&Decision{Reason: v.Reason}, "")
	}
	return &Decision{Allowed: true, Principal: v.Principal}, nil
}

func (i *interceptor) authorize(ctx context.Context, c call, permission, self string) (*Decision, error) {
	q := i.client.question(permission, strings.TrimPrefix(c.spec.Procedure, "/"), c.peer.Addr, c.header)
	if owner := textField(c.message, self); owner != "" && kindOf(q.Credential) == accessToken {
		v, err := i.client.Verify(ctx, q.Credential)
		if err != nil {
			return nil, i.client.undecided(ctx, err)
		}
		if v.good() && v.Principal.SessionID != "" && v.Principal.UserID == owner {
			return &Decision{Allowed: true, Principal: v.Principal}, nil
		}
	}
	d, err := i.client.Authorize(ctx, q)
	if err != nil {
		return nil, i.client.undecided(ctx, err)
	}
	if !d.Allowed {
		return nil, refusal(d, permission)
	}
	return d, nil
}

// good leaves out a user who may do nothing but choose a new password.
func (v *Verification) good() bool { return v.Active && v.Reason == ReasonOK }

// guardOf reads the option of an RPC; nil when there is none.
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

// textField is the value of a message's string field; empty when there is no
// such field.
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
