package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/app"
)

func TestSecretFiles(t *testing.T) {
	clean := func(t *testing.T) {
		for _, name := range app.Secrets() {
			t.Setenv(name, "")
			t.Setenv(name+"_FILE", "")
		}
	}
	file := func(t *testing.T, content string) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("the value is the file's, without the newline at its end", func(t *testing.T) {
		for _, name := range app.Secrets() {
			clean(t)
			t.Setenv(name+"_FILE", file(t, " the value \r\n"))
			if err := readSecretFiles(); err != nil {
				t.Fatal(err)
			}
			if got := os.Getenv(name); got != " the value " {
				t.Errorf("%s is %q", name, got)
			}
		}
	})
	t.Run("nothing is touched without a file", func(t *testing.T) {
		clean(t)
		t.Setenv("TOLLGATE_REDIS_URL", "redis://here")
		if err := readSecretFiles(); err != nil || os.Getenv("TOLLGATE_REDIS_URL") != "redis://here" {
			t.Errorf("error %v, value %q", err, os.Getenv("TOLLGATE_REDIS_URL"))
		}
	})
	const name = "TOLLGATE_ADMIN_PASSWORD"
	for what, set := range map[string]func(t *testing.T){
		"both are set":         func(t *testing.T) { t.Setenv(name, "secret"); t.Setenv(name+"_FILE", file(t, "secret")) },
		"the file is missing":  func(t *testing.T) { t.Setenv(name+"_FILE", filepath.Join(t.TempDir(), "none")) },
		"the file is empty":    func(t *testing.T) { t.Setenv(name+"_FILE", file(t, "\n")) },
		"the file is too long": func(t *testing.T) { t.Setenv(name+"_FILE", file(t, strings.Repeat("secret", maxSecret))) },
		"the file is binary":   func(t *testing.T) { t.Setenv(name+"_FILE", file(t, "secret\x00secret")) },
	} {
		t.Run("an error that tells no secret when "+what, func(t *testing.T) {
			clean(t)
			set(t)
			err := readSecretFiles()
			if err == nil || !strings.Contains(err.Error(), name+"_FILE") || strings.Contains(err.Error(), "secretsecret") {
				t.Errorf("error %v", err)
			}
		})
	}
}
