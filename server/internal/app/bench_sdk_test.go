package app

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// BenchmarkSDK has 1, 16 and 64 callers ask through one Client, for half a second each
// in turn with shared requests and without, and reports how many times as many calls
// are answered with them ("x-alone").
func BenchmarkSDK(b *testing.B) {
	i := startEmbedded(b)
	_, token := i.newUser(b, "alice", "orders:read")
	key := i.call(b, "POST", "/v1/api-keys", i.admin, map[string]any{"name": "bench"}).Want(b, 200).Str("secret")
	client := func(opts ...tollgate.Option) *tollgate.Client {
		c, err := tollgate.New(i.URL, append(opts, tollgate.WithAPIKey(key), tollgate.WithTimeout(30*time.Second))...)
		backendtest.Must(b, err)
		return c
	}
	shared, alone := client(), client(tollgate.WithoutBatching())
	answered := func(c *tollgate.Client, callers int) int64 {
		ctx, cancel := context.WithTimeout(b.Context(), 500*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		var n atomic.Int64
		for range callers {
			all.Go(func() {
				for ctx.Err() == nil {
					d, err := c.Authorize(b.Context(), tollgate.AuthorizeRequest{Credential: token, Permission: "orders:read", Resource: "orders/42"})
					if err != nil || !d.Allowed {
						b.Errorf("%+v, error %v", d, err)
						return
					}
					n.Add(1)
				}
			})
		}
		all.Wait()
		return n.Load()
	}
	for name, callers := range map[string]int{"1": 1, "16": 16, "64": 64} {
		b.Run(name, func(b *testing.B) {
			var with, without int64
			for range b.N {
				with += answered(shared, callers)
				without += answered(alone, callers)
			}
			b.ReportMetric(float64(with)/float64(without), "x-alone")
			b.ReportMetric(float64(with)/float64(b.N)/0.5, "calls/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
