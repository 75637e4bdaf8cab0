package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// BenchmarkGateway sends requests through the gateway and, in turns, through a bare
// httputil.ReverseProxy in front of the same upstream, and reports the former as a
// multiple of the latter ("x-bare"): what the decision, the assertion and the
// headers cost.
func BenchmarkGateway(b *testing.B) {
	payload := strings.Repeat("x", 64<<10)
	g := start(b, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "large") {
			io.WriteString(w, payload)
			return
		}
		hello(w, r)
	})
	g.route(b, "bench", "/bench/{id}", apitest.Object{"authenticated": true})
	to, err := url.Parse(g.upstream.URL)
	backendtest.Must(b, err)
	bare := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(to); p.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	})
	defer bare.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
	call := func(method, base, path, body string) time.Duration {
		req, err := http.NewRequestWithContext(b.Context(), method, base+path, strings.NewReader(body))
		backendtest.Must(b, err)
		req.Header.Set("Authorization", "Bearer "+g.Token)
		began := time.Now()
		res, err := client.Do(req)
		backendtest.Must(b, err)
		_, err = io.Copy(io.Discard, res.Body)
		backendtest.Must(b, err)
		res.Body.Close()
		if res.StatusCode != 200 {
			b.Fatal(res.Status)
		}
		return time.Since(began)
	}
	for _, bench := range []struct{ name, method, path, body string }{
		{"Permission", "GET", "/orders/7", ""},
		{"Public", "GET", "/public/7", ""},
		{"Upload", "POST", "/orders/7", payload},
		{"Large", "GET", "/orders/large", ""},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var through, past time.Duration
			for b.Loop() {
				past += call(bench.method, bare.URL, bench.path, bench.body)
				through += call(bench.method, "http://"+g.addr, bench.path, bench.body)
			}
			b.ReportMetric(float64(through)/float64(past), "x-bare")
			b.ReportMetric(float64(through.Microseconds())/float64(b.N), "µs/gateway")
			b.ReportMetric(float64(past.Microseconds())/float64(b.N), "µs/bare")
		})
	}
}
