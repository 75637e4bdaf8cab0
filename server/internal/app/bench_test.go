package app

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/protobuf/types/known/emptypb"
)

// BenchmarkRPC calls the hot path over gRPC, as services do, and reports each
// call as a multiple of an RPC that does nothing, on the same server in the
// same run ("x-null"): what Tollgate adds, whatever the machine.
//
// The embedded default: SQLite, limits in this process.
func BenchmarkRPC(b *testing.B) {
	i := startEmbedded(b)
	_, token := i.newUser(b, "alice", "orders:read", "limited:read")
	key := i.call(b, "POST", "/v1/api-keys", i.admin, map[string]any{"name": "bench"}).Want(b, http.StatusOK).Str("secret")
	for _, name := range []string{"a", "b", "c"} {
		i.call(b, "POST", "/v1/limits", i.admin, map[string]any{
			"name": name, "subject": "SUBJECT_USER", "permission": "limited:*", "rate": 1_000_000_000, "period": "1s",
		}).Want(b, http.StatusOK)
	}

	handler, err := i.Handler()
	backendtest.Must(b, err)
	const procedure = "/bench.v1.Null/Call"
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.Handle(procedure, connect.NewUnaryHandler(procedure, func(context.Context, *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		return connect.NewResponse(&emptypb.Empty{}), nil
	}))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	h2c := &http.Client{Transport: transport}
	as := connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Authorization", "Bearer "+key)
			return next(ctx, req)
		}
	}))
	nothing := connect.NewClient[emptypb.Empty, emptypb.Empty](h2c, server.URL+procedure, connect.WithGRPC())
	authClient := tollgatev1connect.NewAuthServiceClient(h2c, server.URL, connect.WithGRPC(), as)
	rolesClient := tollgatev1connect.NewRolesServiceClient(h2c, server.URL, connect.WithGRPC(), as)

	null := func(ctx context.Context) error {
		_, err := nothing.CallUnary(ctx, connect.NewRequest(&emptypb.Empty{}))
		return err
	}
	authorize := func(permission string) func(context.Context) error {
		return func(ctx context.Context) error {
			res, err := rolesClient.Authorize(ctx, &tollgatev1.AuthorizeRequest{
				Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: token}, Permission: permission, Resource: "orders/42",
			})
			if err == nil && !res.GetAllowed() {
				err = errors.New(res.GetReason().String())
			}
			return err
		}
	}
	for _, bench := range []struct {
		name string
		call func(context.Context) error
	}{
		{"Null", null},
		{"Verify", func(ctx context.Context) error {
			_, err := authClient.Verify(ctx, &tollgatev1.VerifyRequest{Credential: &tollgatev1.VerifyRequest_AccessToken{AccessToken: token}})
			return err
		}},
		{"Authorize", authorize("orders:read")},
		{"AuthorizeWithThreeLimits", authorize("limited:read")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			ctx := b.Context()
			b.StopTimer()
			began := time.Now()
			for range b.N {
				backendtest.Must(b, null(ctx))
			}
			base := time.Since(began)
			b.StartTimer()
			began = time.Now()
			for range b.N {
				backendtest.Must(b, bench.call(ctx))
			}
			b.ReportMetric(float64(time.Since(began))/float64(base), "x-null")
		})
	}
}
