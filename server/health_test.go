package main

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	var status int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		w.Write([]byte(`{"database":"down"}`))
	}))
	defer server.Close()
	config := app.Config{Listen: strings.TrimPrefix(server.URL, "http://")}

	status = http.StatusOK
	if err := (health{}).Run(t.Context(), config); err != nil {
		t.Errorf("ready: %v", err)
	}
	status = http.StatusServiceUnavailable
	if err := (health{}).Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), `503 Service Unavailable: {"database":"down"}`) {
		t.Errorf("not ready: %v", err)
	}
	server.Close()
	if err := (health{}).Run(t.Context(), config); err == nil {
		t.Error("healthy without a server")
	}
}

// TestHealthOverTLS checks the probe without a CA, and with no certificate but
// the server's own where clients need one.
func TestHealthOverTLS(t *testing.T) {
	t.Parallel()
	example := httptest.NewTLSServer(nil) // for its certificate
	defer example.Close()
	pair := example.TLS.Certificates[0]
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	backendtest.Must(t, err)
	file := func(kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), "file.pem")
		backendtest.Must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	config := app.Config{Listen: "127.0.0.1:0", TLSCert: file("CERTIFICATE", pair.Certificate[0]), TLSKey: file("PRIVATE KEY", secret)}
	for _, clientCA := range []string{"", config.TLSCert} {
		config.TLSClientCA, config.Listen = clientCA, "127.0.0.1:0"
		listener, err := app.Listen(config, clock.Real(), slog.New(slog.DiscardHandler))
		backendtest.Must(t, err)
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ErrorLog: log.New(io.Discard, "", 0)}
		go server.Serve(listener)
		config.Listen = listener.Addr().String()
		if err := (health{}).Run(t.Context(), config); err != nil {
			t.Errorf("client CA %q: %v", clientCA, err)
		}
		server.Close()
		if err := (health{}).Run(t.Context(), config); err == nil {
			t.Error("healthy without a server")
		}
	}
}

func TestProbeAddress(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"127.0.0.1:8000": "127.0.0.1:8000", "0.0.0.0:8000": "127.0.0.1:8000", ":8000": "127.0.0.1:8000",
		"[::]:8000": "[::1]:8000", "10.0.0.7:80": "10.0.0.7:80", "localhost:80": "localhost:80", "8000": "",
	} {
		if got, _ := probeAddress(listen); got != want {
			t.Errorf("%s is asked at %q, want %q", listen, got, want)
		}
	}
}
