package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// certificate writes one for 127.0.0.1 and its key, and returns who believes it.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	backendtest.Must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	backendtest.Must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	backendtest.Must(t, err)
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	backendtest.Must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	backendtest.Must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	pool = x509.NewCertPool()
	own, err := x509.ParseCertificate(der)
	backendtest.Must(t, err)
	pool.AddCert(own)
	return certFile, keyFile, pool
}

// The gateway speaks TLS with the API's certificate, and says so to the service.
func TestGatewayTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	g := start(t, hello, func(c *app.Config) { c.TLSCert, c.TLSKey = cert, key })
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: protocol == "HTTP/2.0"}
		res, err := (&http.Client{Transport: transport, Timeout: apitest.Timeout}).Get("https://" + g.addr + "/public/x")
		backendtest.Must(t, err)
		res.Body.Close()
		backendtest.Equal(t, res.Proto, protocol, "protocol")
		backendtest.Equal(t, res.StatusCode, 200, "status")
		backendtest.Equal(t, g.upstream.last(t).Header.Get("X-Forwarded-Proto"), "https", "X-Forwarded-Proto")
		transport.CloseIdleConnections()
	}
	if _, err := http.Get("https://" + g.addr + "/public/x"); err == nil {
		t.Error("a client that does not know the certificate believes it")
	}
}

// A certificate of an upstream that nobody vouches for is no upstream.
func TestUpstreamTLSIsVerified(t *testing.T) {
	t.Parallel()
	g := start(t, hello)
	secret := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request arrives") }))
	defer secret.Close()
	g.route(t, "tls", "/tls", apitest.Object{"public": true, "upstream": secret.URL})
	backendtest.Equal(t, g.Call(t, "GET", "/tls", nil).Want(t, 502).Reason(), "UPSTREAM_DOWN", "reason")
}
