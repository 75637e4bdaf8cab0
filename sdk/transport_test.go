package tollgate

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestTransportProtocol: HTTP/1.1, also where the server offers HTTP/2 and the
// program has spoken it through the standard transport before.
func TestTransportProtocol(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Proto)) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	_, _ = http.Get(server.URL) // fails, and has the standard transport set up HTTP/2
	transport := newTransport()
	defer transport.CloseIdleConnections()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig
	if transport.TLSClientConfig == nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	transport.TLSClientConfig.RootCAs = config.RootCAs
	res, err := (&http.Client{Transport: transport}).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.Proto != "HTTP/1.1" {
		t.Errorf("it speaks %s", res.Proto)
	}
}
