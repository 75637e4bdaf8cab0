package policytest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/auth/username"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/decision"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"google.golang.org/protobuf/types/known/structpb"
)

var (
	reasons  = protoconv.NewEnum[caller.Reason, tollgatev1.Reason](tollgatev1.Reason_name)
	verdicts = protoconv.NewEnum[roles.TraceVerdict, tollgatev1.Verdict](tollgatev1.Verdict_name)
	effects  = protoconv.NewEnum[roles.Effect, tollgatev1.Effect](tollgatev1.Effect_name)
)

// known says whether a reason is one that Authorize may answer with.
func known(r caller.Reason) bool {
	n := reasons.Proto(r)
	return n > tollgatev1.Reason_REASON_UNSPECIFIED && n <= tollgatev1.Reason_REASON_CONDITION_FAILED
}

// bounds checks roles and cases by the bounds of the contract, as the guard checks the
// requests that they stand for.
type bounds struct{ validator protovalidate.Validator }

// newBounds makes them once, because the rules of the contract take long to compile.
var newBounds = sync.OnceValues(func() (bounds, error) {
	validator, err := protovalidate.New()
	return bounds{validator}, err
})

func (b bounds) role(r roles.Role) error {
	return guard.Check(b.validator, &tollgatev1.CreateRoleRequest{
		Name: r.Name, Description: r.Description, Permissions: r.Permissions,
		Grants: protoconv.List(r.Grants, roles.GrantProto), Inherits: r.Inherits,
	})
}

func (b bounds) resource(kind, id string) error {
	return guard.Check(b.validator, &tollgatev1.PutResourceRequest{Type: kind, Id: id, Attributes: &structpb.Struct{}})
}

func (b bounds) test(c Case) error {
	m, err := c.message()
	if err != nil {
		return err
	}
	if err := guard.Check(b.validator, m); err != nil {
		f := fault.From(err)
		for i, v := range f.Violations { // in the file, the address stands by itself
			f.Violations[i].Field = strings.TrimPrefix(v.Field, "client.")
		}
		return f
	}
	_, err = c.request()
	return err
}

// message is the question as Authorize takes it, without the user.
func (c *Case) message() (*tollgatev1.AuthorizeRequest, error) {
	m := &tollgatev1.AuthorizeRequest{
		Permission: c.Permission, AnyOf: c.AnyOf, AllOf: c.AllOf, Resource: c.Resource, Context: c.Context,
	}
	if c.IP != "" {
		m.Client = &tollgatev1.Client{Ip: c.IP}
	}
	for _, s := range []struct {
		field  string
		values map[string]any
		into   **structpb.Struct
	}{{"resourceAttributes", c.ResourceAttributes, &m.ResourceAttributes}, {"actionProperties", c.ActionProperties, &m.ActionProperties}} {
		if s.values == nil {
			continue
		}
		made, err := structpb.NewStruct(s.values)
		if err != nil {
			return nil, fault.Field(s.field, "%v", err)
		}
		*s.into = made
	}
	return m, nil
}

// request is the question as the server's decision takes it.
func (c *Case) request() (decision.Request, error) {
	m, err := c.message()
	if err != nil {
		return decision.Request{}, err
	}
	return decision.RequestOf(context.Background(), m)
}

const (
	maxAnswer   = 16 << 20 // bytes of one answer
	callTimeout = 10 * time.Second
)

// Server asks a running server, which explains each decision and counts nothing.
type Server struct {
	url   string
	roles tollgatev1connect.RolesServiceClient
	auth  tollgatev1connect.AuthServiceClient
	ids   map[string]string // of users, by name
}

// NewServer makes one for the server at an address, http:// or https://, that
// presents an API key.
func NewServer(address, apiKey string) (*Server, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("--url must be http:// or https://, a host and maybe a port: https://tollgate.example.com")
	}
	if apiKey == "" {
		return nil, errors.New("--url takes --api-key, too: a key that may read users and explain decisions (tollgate:users:read, tollgate:explain)")
	}
	client := &http.Client{
		Timeout: callTimeout,
		// An answer from elsewhere is nobody's verdict, and the key is for one server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	options := []connect.ClientOption{connect.WithReadMaxBytes(maxAnswer), connect.WithInterceptors(bearer(apiKey))}
	return &Server{
		url:   u.Scheme + "://" + u.Host,
		roles: tollgatev1connect.NewRolesServiceClient(client, address, options...),
		auth:  tollgatev1connect.NewAuthServiceClient(client, address, options...),
		ids:   map[string]string{},
	}, nil
}

func bearer(key string) connect.UnaryInterceptorFunc {
	return func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Authorization", "Bearer "+key)
			return next(ctx, req)
		}
	}
}

// Name is the server's address, for people.
func (s *Server) Name() string { return s.url }

// Skips says why a server cannot be asked a case; empty: it can.
func (s *Server) Skips(c *Case) string {
	switch {
	case !c.Now.IsZero():
		return "a server goes by its own clock, and this sets now"
	case c.Scopes != nil:
		return "a server knows the scopes of its own API keys, and this sets scopes"
	}
	return ""
}

// Judge asks the server about a case.
func (s *Server) Judge(ctx context.Context, f *File, c *Case) (Answer, error) {
	id, err := s.userID(ctx, f, c.User)
	if err != nil {
		return Answer{}, err
	}
	m, err := c.message()
	if err != nil {
		return Answer{}, err
	}
	m.Credential = &tollgatev1.AuthorizeRequest_UserId{UserId: id}
	res, err := s.roles.Explain(ctx, &tollgatev1.ExplainRequest{Request: m})
	if err != nil {
		return Answer{}, fmt.Errorf("explain: %w", err)
	}
	return Answer{
		Allowed: res.GetAllowed(), Reason: reasons.Text(res.GetReason()),
		Roles: res.GetPrincipal().GetRoles(), Scopes: res.GetScopes(),
		Traces: protoconv.List(res.GetGrants(), traceOf),
	}, nil
}

func traceOf(t *tollgatev1.GrantTrace) decision.Trace {
	return decision.Trace{
		Trace: roles.Trace{
			Role: t.GetRole(), From: t.GetFrom(), Verdict: verdicts.Text(t.GetVerdict()), Detail: t.GetDetail(), Read: t.GetRead(),
			Grant: roles.Grant{Permission: t.GetPermission(), Condition: t.GetCondition(), Effect: effects.Text(t.GetEffect())},
		},
		Asked: t.GetAsked(),
	}
}

// userID is the id of a user at the server: as the file says it, or by the name.
func (s *Server) userID(ctx context.Context, f *File, name string) (string, error) {
	if username.IsID(name) {
		return name, nil
	}
	if u := f.users[name]; username.IsID(u.ID) {
		return u.ID, nil
	}
	if id := s.ids[name]; id != "" {
		return id, nil
	}
	res, err := s.auth.ListUsers(ctx, &tollgatev1.ListUsersRequest{Username: name, PageSize: 1})
	switch {
	case err != nil:
		return "", fmt.Errorf("look for user %q: %w", name, err)
	case len(res.GetUsers()) == 0:
		return "", fmt.Errorf("there is no user %q on the server", name)
	}
	s.ids[name] = res.GetUsers()[0].GetId()
	return s.ids[name], nil
}
