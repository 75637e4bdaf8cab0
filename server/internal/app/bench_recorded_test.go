package app

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// BenchmarkRecorded has 32 callers call Authorize for half a second each in turn: allowed
// and not recorded, allowed and recorded, and refused, which is recorded, too. The rates
// are of one user; the calls to record share commits. Then one caller sends batches of 100
// calls that are recorded.
func BenchmarkRecorded(b *testing.B) {
	for _, backend := range []struct {
		name string
		url  func(testing.TB) string
	}{{"sqlite", backendtest.SQLiteURL}, {"postgres", backendtest.PostgreSQLURL}} {
		b.Run(backend.name, func(b *testing.B) {
			i := start(b, testConfig(backend.url(b)), clock.Real())
			_, token := i.newUser(b, "alice", "orders:read", "plain:read")
			i.recording(b, "orders", "orders:*", 0)
			service := tollgatev1connect.NewRolesServiceClient(h2c(b), i.URL, connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
				return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
					req.Header().Set("Authorization", "Bearer "+i.admin)
					return next(ctx, req)
				}
			})))
			answered := func(permission string) int64 {
				ctx, cancel := context.WithTimeout(b.Context(), 500*time.Millisecond)
				defer cancel()
				var all sync.WaitGroup
				var n atomic.Int64
				for range 32 {
					all.Go(func() {
						for ctx.Err() == nil {
							res, err := service.Authorize(b.Context(), &tollgatev1.AuthorizeRequest{
								Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: token}, Permission: permission, Resource: "orders/42",
							})
							if err != nil || res.GetAllowed() == (permission == "none:read") {
								b.Errorf("%v, error %v", res, err)
								return
							}
							n.Add(1)
						}
					})
				}
				all.Wait()
				return n.Load()
			}
			var plain, recorded, refused int64
			for range b.N {
				plain += answered("plain:read")
				recorded += answered("orders:read")
				refused += answered("none:read")
			}
			batch := &tollgatev1.BatchAuthorizeRequest{}
			for range 100 {
				batch.Requests = append(batch.Requests, &tollgatev1.AuthorizeRequest{
					Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: token}, Permission: "orders:read", Resource: "orders/42",
				})
			}
			began, batches := time.Now(), 20*b.N
			for range batches {
				_, err := service.BatchAuthorize(b.Context(), batch)
				backendtest.Must(b, err)
			}
			b.ReportMetric(float64(time.Since(began).Milliseconds())/float64(batches), "ms/batch-of-100")
			seconds := float64(b.N) / 2
			b.ReportMetric(float64(plain)/seconds, "plain/s")
			b.ReportMetric(float64(recorded)/seconds, "recorded/s")
			b.ReportMetric(float64(refused)/seconds, "refused/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
