package tollgate

import (
	"context"
	"net/http"
	"strings"
	"time"

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
//     is signed in and whose own id the request's field holds passes without
//     it. Streams have no self, because their first message is yet to come.
//   - authenticated: any good credential will do; limits that match the
//     option's action count, or "authenticated" when it has none.
//   - public: everybody passes, and Tollgate is not asked.
//   - none: nobody passes.
//
// A handler finds the caller with FromContext. A stream's caller is looked at
// again and again; see WithRecheck.
//
// What does not pass fails with Unauthenticated, PermissionDenied or
// ResourceExhausted, and with Unavailable when Tollgate cannot be asked. The
// error has a google.rpc.ErrorInfo with the reason, and a google.rpc.RetryInfo
// when waiting helps. Over the Connect protocol these errors have the same
// status and headers as those of Require. Bad credentials count against the
// limits of their address and are in Tollgate's audit log.
//
// Put it first, so that nothing works for a caller who is refused.
func (c *Client) Interceptor(opts ...InterceptorOption) connect.Interceptor {
	i := &interceptor{client: c, every: defaultRecheck}
	for _, opt := range opts {
		opt(i)
	}
	return i
}

// InterceptorOption changes how an Interceptor works.
type InterceptorOption func(*interceptor)

// WithVerifier decides about RPCs that any good credential may call in this
// process, as Verifier.Authenticate does, and ends streams as soon as the feed
// of revocations tells that their caller's credential is not good any more.
func WithVerifier(v *Verifier) InterceptorOption {
	return func(i *interceptor) { i.verifier = v }
}

// WithRecheck says how old what is known of a stream's caller may get; 30 s
// unless given. Tollgate is asked again when half of it has passed. The stream
// ends with Unauthenticated or PermissionDenied when the credential or the
// permission is gone, and with Unavailable when there was no answer for so long:
// its context ends, and it sends and receives nothing more. It panics when d is
// not longer than zero.
func WithRecheck(d time.Duration) InterceptorOption {
	if d <= 0 {
		panic("tollgate: WithRecheck needs a time longer than zero")
	}
	return func(i *interceptor) { i.every = d }
}

type interceptor struct {
	client   *Client
	verifier *Verifier // nil: none
	every    time.Duration
}

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
		q, err := i.question(call{req.Spec(), req.Peer(), req.Header(), req.Any()})
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
		q, err := i.question(call{conn.Spec(), conn.Peer(), conn.RequestHeader(), nil})
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
		ctx, done := i.watch(ctx, *q, d.Principal)
		defer done()
		err = next(ctx, watchedConn{conn, ctx})
		if refused := ended(ctx); refused != nil {
			return refused
		}
		return err
	}
}

func (i *interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// question is what to ask about a call; nil when its RPC is public.
func (i *interceptor) question(c call) (*AuthorizeRequest, error) {
	guard := guardOf(c.spec)
	ask := func(permission string) *AuthorizeRequest {
		q := i.client.question(permission, strings.TrimPrefix(c.spec.Procedure, "/"), c.peer.Addr, c.header)
		return &q
	}
	switch rule := guard.GetRule().(type) {
	case *tollgatev1.Guard_Public:
		if rule.Public {
			return nil, nil
		}
	case *tollgatev1.Guard_Authenticated:
		if rule.Authenticated {
			q := ask(guard.GetAction())
			q.Authenticated = true
			return q, nil
		}
	case *tollgatev1.Guard_Permission:
		if rule.Permission != "" {
			q := ask(rule.Permission)
			q.Self = textField(c.message, guard.GetSelf())
			return q, nil
		}
	}
	return nil, told(connect.CodePermissionDenied, "NO_GUARD",
		"nobody may call "+c.spec.Procedure+": it has no option (tollgate.v1.guard)", 0)
}

// decide returns the decision for a call that may go ahead; its Principal is
// nil when the RPC is public.
func (i *interceptor) decide(ctx context.Context, q *AuthorizeRequest) (*Decision, error) {
	if q == nil {
		return &Decision{Allowed: true}, nil
	}
	d, err := i.ask(ctx, *q)
	switch {
	case err != nil:
		return nil, i.client.undecided(ctx, err)
	case !d.Allowed:
		return nil, refusal(d, q.Permission)
	}
	return d, nil
}

func (i *interceptor) ask(ctx context.Context, q AuthorizeRequest) (*Decision, error) {
	switch {
	case !q.Authenticated:
		return i.client.Authorize(ctx, q)
	case i.verifier != nil:
		return i.verifier.decide(ctx, q)
	case q.Credential == "": // nothing was tried
		return &Decision{Reason: ReasonCredentialMissing}, nil
	}
	return i.client.Authorize(ctx, q)
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
