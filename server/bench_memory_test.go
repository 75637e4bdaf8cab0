package main_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"google.golang.org/protobuf/proto"
)

// principals is how many bytes of the heap a user takes who is remembered with a
// verified token and roles. The server runs in this process, where the heap can
// be counted.
func (b *bench) principals(t *testing.T) float64 {
	size := b.small()
	size.cold = min(b.cold, 20_000)
	m := newMeasured(t, size, backendtest.SQLiteURL(t), "")
	m.stop(t)
	config := app.Config{
		Listen: "127.0.0.1:0", DatabaseURL: databaseOf(m.env), MasterKey: benchMasterKey, Issuer: benchIssuer, Audience: "tollgate",
		AccessTokenTTL: 24 * time.Hour, SessionIdle: 24 * time.Hour, SessionMax: 48 * time.Hour, BcryptCost: 4, Staleness: 5 * time.Second,
	}
	a, err := app.Open(t.Context(), config, clock.Real(), app.Out{Stdout: io.Discard, Log: slog.New(slog.DiscardHandler)})
	backendtest.Must(t, err)
	t.Cleanup(func() { backendtest.Must(t, a.Close()) })
	handler, err := a.Handler()
	backendtest.Must(t, err)
	ask := func(token string) {
		r, err := prepareConnect(tollgatev1connect.RolesServiceAuthorizeProcedure, &tollgatev1.AuthorizeRequest{
			Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: token}, Permission: "orders:read",
		})
		backendtest.Must(t, err)
		req := httptest.NewRequestWithContext(b.ctx, r.method, r.path, bytes.NewReader(r.body))
		for i := 0; i < len(r.header); i += 2 {
			req.Header.Set(r.header[i], r.header[i+1])
		}
		req.Header.Set("Authorization", "Bearer "+m.key)
		got := httptest.NewRecorder()
		handler.ServeHTTP(got, req)
		var answer tollgatev1.AuthorizeResponse
		if err := proto.Unmarshal(got.Body.Bytes(), &answer); err != nil || got.Code != http.StatusOK || !answer.GetAllowed() {
			t.Fatalf("%d %s: %v", got.Code, got.Body, err)
		}
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what finalizers let go
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	tokens := m.cold.list
	ask(tokens[0])
	before := heap()
	for _, token := range tokens[1:] {
		ask(strings.Clone(token)) // as a server has it, from a request
	}
	bytes := float64(int64(heap())-int64(before)) / float64(len(tokens)-1)
	if b.each > 0 {
		b.step("memory: %s", fmt.Sprintf("%.0f bytes for each user", bytes))
	}
	runtime.KeepAlive(tokens)
	return bytes
}
