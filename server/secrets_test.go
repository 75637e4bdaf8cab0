package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

func TestSecretFiles(t *testing.T) {
	file := func(t *testing.T, content string) string {
		path := filepath.Join(t.TempDir(), "secret")
		backendtest.Must(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	// parse reads the flags with nothing but these variables, and returns each
	// secret by its variable.
	parse := func(t *testing.T, variables map[string]string, args ...string) (map[string]string, error) {
		for _, name := range app.Secrets() {
			t.Setenv(name, variables[name])
			t.Setenv(name+"_FILE", variables[name+"_FILE"])
		}
		parser := kong.Must(&commands{}, kong.Vars{"version": "test"}, kong.Resolvers(kong.ResolverFunc(secretFile)))
		_, err := parser.Parse(args)
		secrets := map[string]string{}
		for _, flag := range parser.Model.Flags {
			if flag.Tag.Has("secret") {
				secrets[flag.Envs[0]] = flag.Target.String()
				if list, ok := flag.Target.Interface().([]string); ok {
					secrets[flag.Envs[0]] = strings.Join(list, " ")
				}
			}
		}
		return secrets, err
	}
	for _, name := range app.Secrets() {
		t.Run(name+"/the file's content without the newline at its end", func(t *testing.T) {
			got, err := parse(t, map[string]string{name + "_FILE": file(t, " the value \r\n")})
			if err != nil || got[name] != " the value " && (name != "TOLLGATE_AUDIT_SINKS" || got[name] != " the value") { // spaces are between sinks
				t.Errorf("%q, %v", got[name], err)
			}
		})
	}
	const name = "TOLLGATE_ADMIN_PASSWORD"
	t.Run("the variable", func(t *testing.T) {
		if got, err := parse(t, map[string]string{name: "of the variable"}); err != nil || got[name] != "of the variable" {
			t.Errorf("%q, %v", got[name], err)
		}
	})
	t.Run("the flag before the file", func(t *testing.T) {
		got, err := parse(t, map[string]string{name + "_FILE": file(t, "of the file")}, "--admin-password", "of the flag")
		if err != nil || got[name] != "of the flag" {
			t.Errorf("%q, %v", got[name], err)
		}
	})
	for what, variables := range map[string]map[string]string{
		"both are set":         {name: "secret", name + "_FILE": file(t, "secret")},
		"the file is missing":  {name + "_FILE": filepath.Join(t.TempDir(), "none")},
		"the file is empty":    {name + "_FILE": file(t, "\n")},
		"the file is too long": {name + "_FILE": file(t, strings.Repeat("secret", maxSecret))},
		"the file is binary":   {name + "_FILE": file(t, "secret\x00secret")},
	} {
		t.Run("an error without the secret/"+what, func(t *testing.T) {
			_, err := parse(t, variables)
			if err == nil || !strings.Contains(err.Error(), name+"_FILE") || strings.Contains(err.Error(), "secretsecret") {
				t.Errorf("error %v", err)
			}
		})
	}
}
