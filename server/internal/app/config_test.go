package app

import "testing"

// What is logged of a URL holds no password, wherever it stands.
func TestRedactURL(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"sqlite:a b.db": "sqlite:a b.db",
		"postgres://tollgate:hunter2@db/tollgate?sslpassword=hunter2": "postgres://tollgate:xxxxx@db/tollgate",
		"redis://:hunter2@host:6379/0?sentinel_password=hunter2#x":    "redis://:xxxxx@host:6379/0",
		"redis://u:hunter2@%zz/":                                      "(not a URL)",
	} {
		if got := redactURL(address); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}
