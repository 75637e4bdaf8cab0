package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// A gateway that stops serves what comes until its balancer has noticed, lets what
// runs come to its end, and ends what has none.
func TestDrain(t *testing.T) {
	t.Parallel()
	release, events := make(chan struct{}), make(chan string, 1)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/running"):
			<-release
			hello(w, r)
		case strings.HasSuffix(r.URL.Path, "/events"):
			stream(events, "text/event-stream")(w, r)
		default:
			echo(w, r)
		}
	}, func(c *app.Config) { c.DrainDelay = time.Second })
	sse := g.open(t, "/orders/events", g.Token)
	_, socket, res := g.upgrade(t, "/orders/socket", g.Token, "websocket", "")
	backendtest.Equal(t, res.StatusCode, 101, "status")
	running := make(chan string, 1)
	go func() {
		a, err := g.Try(context.Background(), "GET", "/orders/running", nil)
		if err != nil {
			t.Error(err)
		}
		running <- string(a.Raw)
	}()
	apitest.Eventually(t, "all are at the upstream", func() bool { return len(g.upstream.requests()) == 3 })
	g.stop()
	apitest.Eventually(t, "it says that it stops", func() bool {
		a, err := g.api.Try(t.Context(), "GET", "/readyz", nil)
		return err == nil && a.Status == 503
	})
	res, body := g.raw(t, "GET /public/x HTTP/1.1\r\nHost: a.example\r\n\r\n")
	if res.StatusCode != 200 || body != "hello\n" || !res.Close {
		t.Errorf("a request in the delay gets %d %q, and its connection stays: %v", res.StatusCode, body, !res.Close)
	}
	events <- "data: 1\n\n" // streams go on in the delay
	line, err := bufio.NewReader(sse.Body).ReadString('\n')
	backendtest.Must(t, err)
	backendtest.Equal(t, line, "data: 1\n", "event")
	if _, err := io.ReadAll(sse.Body); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stream of events goes on, or ends as if it were whole: %v", err)
	}
	if _, err := socket.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a WebSocket goes on: %v", err)
	}
	close(release)
	backendtest.Equal(t, <-running, "hello\n", "the response of what ran")
	select {
	case err := <-g.stopped:
		backendtest.Must(t, err)
	case <-time.After(apitest.Timeout):
		t.Error("it does not stop")
	}
}

// A second gateway on the same address fails with the name of its flag.
func TestGatewayAddressIsTaken(t *testing.T) {
	t.Parallel()
	g := start(t, hello)
	_, err := app.ListenGateway(app.Config{GatewayListen: g.addr}, clock.Real(), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "--gateway-listen") {
		t.Errorf("%v", err)
	}
}
