package tollgate_test

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// rolesService is a RolesService without a network, so that a test's time can be
// synctest's.
type rolesService struct {
	tollgatev1connect.UnimplementedRolesServiceHandler
	answer func(context.Context, *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error)
	refuse func(*tollgatev1.BatchAuthorizeRequest) error // a batch as a whole; may be nil

	mu       sync.Mutex
	requests []int // how many calls each request carried
	bytes    int   // of the largest request
}

func (s *rolesService) got(message proto.Message, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, calls)
	s.bytes = max(s.bytes, proto.Size(message))
}

func (s *rolesService) carried() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int{}, s.requests...)
}

func (s *rolesService) Authorize(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
	s.got(req, 1)
	return s.answer(ctx, req)
}

// BatchAuthorize answers as the server does.
func (s *rolesService) BatchAuthorize(ctx context.Context, req *tollgatev1.BatchAuthorizeRequest) (*tollgatev1.BatchAuthorizeResponse, error) {
	s.got(req, len(req.GetRequests()))
	if s.refuse != nil {
		if err := s.refuse(req); err != nil {
			return nil, err
		}
	}
	res := &tollgatev1.BatchAuthorizeResponse{Responses: make([]*tollgatev1.AuthorizeResponse, len(req.GetRequests()))}
	failed := make([]error, len(req.GetRequests()))
	var all sync.WaitGroup
	for i, r := range req.GetRequests() {
		all.Go(func() { res.Responses[i], failed[i] = s.answer(ctx, r) })
	}
	all.Wait()
	for i, err := range failed {
		if err == nil {
			continue
		}
		if ctx.Err() != nil || !req.GetIndependent() {
			return nil, err
		}
		res.Responses[i] = &tollgatev1.AuthorizeResponse{}
		res.Failures = append(res.Failures, failureOf(i, err))
	}
	return res, nil
}

func failureOf(index int, err error) *tollgatev1.BatchFailure {
	f := &tollgatev1.BatchFailure{Index: int32(index), Code: connect.CodeOf(err).String()}
	wire, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return f
	}
	f.Message = wire.Message()
	f.Reason = tollgatev1.Reason(tollgatev1.Reason_value["REASON_"+wire.Meta().Get("X-Reason")])
	if wire.Meta().Get("Retry-After") == "30" {
		f.RetryAfter = durationpb.New(30e9)
	}
	return f
}

// client returns a client of the service, without retries.
func (s *rolesService) client(t testing.TB, opts ...tollgate.Option) *tollgate.Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(tollgatev1connect.NewRolesServiceHandler(s))
	trip := tripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			mux.ServeHTTP(w, r)
		}()
		select {
		case <-done:
			return w.Result(), nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	})
	return newClient(t, "http://tollgate.test", append([]tollgate.Option{
		tollgate.WithHTTPClient(&http.Client{Transport: trip}), tollgate.WithRetries(0), tollgate.WithLogger(slog.New(slog.DiscardHandler)),
	}, opts...)...)
}

// holding returns a service that answers allowed to each call, whose user is its
// resource, but for calls of "hold", which it answers when release is called.
func holding() (s *rolesService, release func()) {
	released := make(chan struct{})
	return &rolesService{answer: func(ctx context.Context, req *tollgatev1.AuthorizeRequest) (*tollgatev1.AuthorizeResponse, error) {
		if strings.HasPrefix(req.GetResource(), "hold") {
			select {
			case <-released:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return &tollgatev1.AuthorizeResponse{
			Allowed: true, Reason: tollgatev1.Reason_REASON_OK, Principal: &tollgatev1.Principal{UserId: req.GetResource()},
		}, nil
	}}, sync.OnceFunc(func() { close(released) })
}

func about(resource string) tollgate.AuthorizeRequest {
	return tollgate.AuthorizeRequest{Credential: "alice.token", Permission: "orders:read", Resource: resource}
}

// errorInfo is a google.rpc.ErrorInfo as an error's details have it.
func errorInfo(reason string) string {
	detail, err := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason})
	if err != nil {
		panic(err)
	}
	return base64.RawStdEncoding.EncodeToString(detail.Bytes())
}

func limitOf(name, permission string, calls int64) sdktest.Limit {
	return sdktest.Limit{Name: name, Permission: permission, Calls: calls, RetryAfter: time.Second}
}

// reasonError is an Unavailable with a reason.
func reasonError(reason string) error {
	err := connect.NewError(connect.CodeUnavailable, errors.New("no"))
	detail, failed := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason})
	if failed != nil {
		panic(failed)
	}
	err.AddDetail(detail)
	return err
}
