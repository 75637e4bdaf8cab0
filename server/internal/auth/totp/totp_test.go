package totp

import "testing"

func TestNewIssuer(t *testing.T) {
	t.Parallel()
	for issuer, want := range map[string]Issuer{
		"https://auth.example.com:8443/x": "auth.example.com", "tollgate": "tollgate", "a:b": "a b",
	} {
		if got := NewIssuer(issuer); got != want {
			t.Errorf("%q: %q, want %q", issuer, got, want)
		}
	}
}
