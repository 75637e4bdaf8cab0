package gateway_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/gateway"
)

// An upstream that is gone is a 502 in the one shape, and back with its first
// connection.
func TestUpstreamGone(t *testing.T) {
	t.Parallel()
	g := start(t, hello)
	proxy := backendtest.NewProxy(t, g.upstream.URL)
	g.route(t, "mortal", "/mortal", apitest.Object{"public": true, "upstream": proxy.URL})
	for _, mode := range []backendtest.Mode{backendtest.Refuse, backendtest.Reset} {
		g.Call(t, "GET", "/mortal", nil).Want(t, 200)
		proxy.Set(t, mode)
		a := g.Call(t, "GET", "/mortal", nil).Want(t, 502)
		backendtest.Equal(t, a.Reason(), "UPSTREAM_DOWN", "reason when the upstream %s", mode)
		backendtest.Equal(t, a.Header.Get("Retry-After"), "1", "Retry-After")
		proxy.Set(t, backendtest.Pass)
		g.Call(t, "GET", "/mortal", nil).Want(t, 200)
	}
}

func TestUpstreamThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	defer close(done)
	g := start(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-done:
		}
	}, func(c *app.Config) { c.GatewayTimeout = time.Second })
	a := g.Call(t, "GET", "/public/x", nil).Want(t, 504)
	backendtest.Equal(t, a.Reason(), "UPSTREAM_TIMEOUT", "reason")
	// It also does not take the body.
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+g.addr+"/public/x", zeros(1<<30))
	backendtest.Must(t, err)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err == nil { // the client may still be writing when the answer comes
		defer res.Body.Close()
		backendtest.Equal(t, res.StatusCode, 504, "status")
	}
	apitest.Eventually(t, "both are let go", func() bool {
		a, err := g.Try(t.Context(), "GET", "/elsewhere", nil)
		return err == nil && a.Status == 403
	})
}

// A response that breaks off must not look whole.
func TestUpstreamBreaksOff(t *testing.T) {
	t.Parallel()
	g := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	res := g.open(t, "/public/x", "")
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the body is %q, as if it were whole", body)
	}
}

// No name and no spelling leads to where clouds keep a machine's credentials.
func TestUpstreamAddresses(t *testing.T) {
	t.Parallel()
	g := start(t, hello)
	for i, upstream := range []string{"http://0.0.0.0:1", "http://169.254.169.254", "http://[fe80::1]", "http://[::]:1", "http://224.0.0.1"} {
		a := g.api.Call(t, "POST", "/v1/routes", apitest.Object{"name": "cloud", "path": "/cloud", "public": true, "upstream": upstream})
		backendtest.Equal(t, a.Status, 400, "status of route %d to %s", i, upstream)
	}
	for i, upstream := range []string{"http://100.100.100.200", "http://168.63.129.16", "http://[fd00:ec2::254]", "http://[64:ff9b::a9fe:a9fe]"} {
		g.route(t, "cloud", "/cloud", apitest.Object{"public": true, "upstream": upstream})
		a := g.Call(t, "GET", "/cloud", nil).Want(t, 502)
		if !strings.Contains(a.Str("message"), "does not connect to") {
			t.Errorf("%d: %s: %s", i, upstream, a.Raw)
		}
		g.api.Call(t, "DELETE", "/v1/routes/cloud", nil).Want(t, 200)
	}
}

// A gateway that is its own upstream says so instead of going around.
func TestLoop(t *testing.T) {
	t.Parallel()
	g := start(t, hello)
	g.route(t, "loop", "/loop", apitest.Object{"public": true, "upstream": "http://" + g.addr})
	a := g.Call(t, "GET", "/loop", nil).Want(t, http.StatusLoopDetected)
	backendtest.Equal(t, a.Reason(), "GATEWAY_LOOP", "reason")
	g.Call(t, "GET", "/public/x", nil, "Via", "1.1 tollgate-0000000000000000").Want(t, 200)
}

// What cannot be decided is not forwarded.
func TestUndecided(t *testing.T) {
	t.Parallel()
	database := backendtest.NewProxy(t, backendtest.PostgreSQLURL(t))
	g := start(t, hello, func(c *app.Config) { c.DatabaseURL, c.Staleness = database.URL, time.Second })
	for _, path := range []string{"/orders/7", "/public/x"} {
		g.Call(t, "GET", path, nil).Want(t, 200)
	}
	texts := make(chan string)
	g.upstream.become(stream(texts, "text/event-stream"))
	res := g.open(t, "/orders/events", g.Token)
	g.upstream.become(hello)
	database.Set(t, backendtest.Refuse)
	apitest.Eventually(t, "nothing can be decided", func() bool {
		a, err := g.Try(t.Context(), "GET", "/orders/7", nil)
		return err == nil && a.Status == 503
	})
	before := len(g.upstream.requests())
	for _, path := range []string{"/orders/7", "/public/x"} {
		a := g.Call(t, "GET", path, nil).Want(t, 503)
		backendtest.Equal(t, a.Reason(), "DEPENDENCY_DOWN", "reason for %s", path)
	}
	backendtest.Equal(t, len(g.upstream.requests()), before, "requests that the upstream saw of undecided ones")
	if _, err := io.ReadAll(res.Body); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stream goes on while nothing can be decided, or ends as if it were whole: %v", err)
	}
	database.Set(t, backendtest.Pass)
	apitest.Eventually(t, "it is back", func() bool {
		a, err := g.Try(t.Context(), "GET", "/orders/7", nil)
		return err == nil && a.Status == 200
	})
}

// The address that counts is the one that a name resolved to.
func TestAddressesAfterDNS(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"127.0.0.1": true, "10.0.0.1": true, "192.0.2.1": true, "::1": true, "fd00::1": true, "2001:db8::1": true, "::ffff:10.0.0.1": true, "64:ff9b::a00:1": true,
		"169.254.169.254": false, "::ffff:169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "0.0.0.0": false, "::": false, "224.0.0.1": false, "ff02::1": false,
		"255.255.255.255": false, "fd00:ec2::254": false, "168.63.129.16": false, "100.100.100.200": false, "64:ff9b::a9fe:a9fe": false, "::ffff:0.0.0.0": false,
	} {
		backendtest.Equal(t, gateway.GoodAddress(netip.MustParseAddr(text)), want, "%s", text)
	}
	if gateway.CheckAddress(t.Context(), "", net.JoinHostPort("fe80::1%eth0", "80"), nil) == nil || gateway.CheckAddress(t.Context(), "", "127.0.0.1:80", nil) != nil {
		t.Error("an address with a port is read wrongly")
	}
}
