package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/app"
)

func TestHealth(t *testing.T) {
	var status int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		w.Write([]byte(`{"database":"down"}`)) //nolint:errcheck // a test's server
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

func TestAskable(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8000": "127.0.0.1:8000", "0.0.0.0:8000": "127.0.0.1:8000", ":8000": "127.0.0.1:8000",
		"[::]:8000": "[::1]:8000", "10.0.0.7:80": "10.0.0.7:80", "localhost:80": "localhost:80", "8000": "",
	} {
		if got, _ := askable(listen); got != want {
			t.Errorf("%s is asked at %q, want %q", listen, got, want)
		}
	}
}
