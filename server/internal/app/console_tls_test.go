package app

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// TestConsoleOverTLS: the cookie is Secure, and no page of plain http can have set one of
// its name.
func TestConsoleOverTLS(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, nil)
	b := &browser{Client: apitest.Client{URL: s.url, HTTP: s.client()}}
	a := b.post(t, "login", apitest.Object{"username": FirstAdmin, "password": adminPassword}).Want(t, http.StatusOK)
	if c := b.cookie; c == nil || !c.Secure || !c.HttpOnly || !strings.HasPrefix(c.Name, "__Secure-tollgate") || c.Path != "/console/session" {
		t.Fatalf("cookie %v", c)
	}
	if a.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("headers %v", a.Header)
	}
	plain := *b.cookie
	b.post(t, "refresh", nil).Want(t, http.StatusOK)
	plain.Name = strings.TrimPrefix(plain.Name, "__Secure-")
	b.cookie = &plain
	b.post(t, "refresh", nil).Want(t, http.StatusUnauthorized)
}
