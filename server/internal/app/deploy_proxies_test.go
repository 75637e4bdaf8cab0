package app

import (
	"bytes"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tollgatehq/tollgate/server/internal/auth/apikey"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/enforce"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// copied are the headers that a proxy copies from an answer.
var copied = []string{enforce.PrincipalHeader, enforce.AssertionHeader}

// What the files of deploy ask is what Tollgate answers, and no key is in them. The
// tests of nginx, Caddy and HAProxy run them.
func TestDeployAsks(t *testing.T) {
	t.Parallel()
	asks := regexp.MustCompile(`/v1/forward-auth\?([^\s;"']*)`)
	found := map[string]int{}
	err := filepath.WalkDir(filepath.Join(root, "deploy"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		text := string(content)
		proxy := filepath.Base(filepath.Dir(path))
		for _, m := range asks.FindAllStringSubmatch(text, -1) {
			found[proxy]++
			query, err := url.ParseQuery(m[1])
			backendtest.Must(t, err)
			settings := map[string]string{}
			for name, values := range query {
				settings[name] = values[0]
			}
			if (settings["deny"] == "403") != (proxy == "nginx") {
				t.Errorf("%s: %s: deny=403 is for nginx, which makes 500 of other refusals, and for no other proxy", path, m[0])
			}
			delete(settings, "deny")
			if settings["audience"] == "" {
				t.Errorf("%s: %s: no audience, so the service cannot tell an assertion for itself", path, m[0])
			}
			if _, err := (enforce.Form{In: path}).Read(settings); err != nil {
				t.Errorf("%s: %s: %v", path, m[0], err)
			}
		}
		if key := regexp.MustCompile(apikey.Prefix + `\w+`).FindString(text); key != "" {
			t.Errorf("%s has a key: %s", path, key)
		}
		if strings.Contains(text, "/v1/authorize") {
			t.Errorf("%s asks Authorize, whose refusals are answers with the status 200", path)
		}
		return err
	})
	backendtest.Must(t, err)
	for _, proxy := range []string{"nginx", "caddy", "haproxy", "traefik"} {
		if found[proxy] == 0 {
			t.Errorf("deploy/%s asks nothing", proxy)
		}
	}
}

// Who calls is in the headers that Tollgate sends, and in those alone.
func TestDeployHeaders(t *testing.T) {
	t.Parallel()
	nginx := read(t, "deploy/nginx/tollgate-protect.conf")
	for _, name := range append(enforce.IdentityNames(), guard.ProxyKey) {
		if !regexp.MustCompile(`(?m)^proxy_set_header ` + name + ` (""|\$tollgate_\w+);$`).MatchString(nginx) {
			t.Errorf("nginx passes on the client's %s", name)
		}
	}
	if want := "copy_headers " + strings.Join(copied, " ") + "\n"; !strings.Contains(read(t, "deploy/caddy/Caddyfile"), want) {
		t.Errorf("Caddy has no %q", want)
	}
	if want := `identity = { "` + strings.ToLower(strings.Join(copied, `", "`)) + `" }`; !strings.Contains(read(t, "deploy/haproxy/tollgate.lua"), want) {
		t.Errorf("HAProxy has no %q", want)
	}
}

type traefikMiddleware struct {
	ForwardAuth *struct {
		Address             string   `yaml:"address"`
		TrustForwardHeader  *bool    `yaml:"trustForwardHeader"`
		AuthRequestHeaders  []string `yaml:"authRequestHeaders"`
		AuthResponseHeaders []string `yaml:"authResponseHeaders"`
	} `yaml:"forwardAuth"`
	Headers *struct {
		CustomRequestHeaders map[string]string `yaml:"customRequestHeaders"`
	} `yaml:"headers"`
}

// Traefik does not run here, so its file is checked for what it must say, and for
// nothing else being in it.
func TestDeployTraefik(t *testing.T) {
	t.Parallel()
	var file struct {
		HTTP struct {
			Routers map[string]struct {
				Rule        string   `yaml:"rule"`
				EntryPoints []string `yaml:"entryPoints"`
				TLS         any      `yaml:"tls"`
				Service     string   `yaml:"service"`
				Middlewares []string `yaml:"middlewares"`
			} `yaml:"routers"`
			Services map[string]struct {
				LoadBalancer struct {
					Servers []struct {
						URL string `yaml:"url"`
					} `yaml:"servers"`
				} `yaml:"loadBalancer"`
			} `yaml:"services"`
			Middlewares map[string]traefikMiddleware `yaml:"middlewares"`
		} `yaml:"http"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(read(t, "deploy/traefik/tollgate.yaml"))))
	decoder.KnownFields(true)
	backendtest.Must(t, decoder.Decode(&file))

	used := map[string]bool{}
	for name, router := range file.HTTP.Routers {
		if !slices.Equal(router.Middlewares, []string{"tollgate-strip", "tollgate", "tollgate-unkey"}) {
			t.Errorf("%s has the middlewares %v: the client's headers go first, and the key last", name, router.Middlewares)
		}
		if len(file.HTTP.Services[router.Service].LoadBalancer.Servers) == 0 || router.TLS == nil {
			t.Errorf("%s has no service or no TLS", name)
		}
		for _, middleware := range router.Middlewares {
			used[middleware] = true
		}
	}
	for name := range file.HTTP.Middlewares {
		if !used[name] {
			t.Errorf("nothing uses %s", name)
		}
	}
	middlewares := file.HTTP.Middlewares
	strip, ask, unkey := middlewares["tollgate-strip"].Headers, middlewares["tollgate"].ForwardAuth, middlewares["tollgate-unkey"].Headers
	if strip == nil || ask == nil || unkey == nil {
		t.Fatalf("a middleware is missing: %v", middlewares)
	}
	for _, name := range enforce.IdentityNames() {
		for _, spelling := range []string{name, strings.ReplaceAll(name, "-", "_")} {
			if value, ok := strip.CustomRequestHeaders[spelling]; !ok || value != "" {
				t.Errorf("Traefik passes on the client's %s", spelling)
			}
		}
	}
	if key := strip.CustomRequestHeaders[guard.ProxyKey]; key != `{{ env "TOLLGATE_KEY" }}` {
		t.Errorf("%s is %q", guard.ProxyKey, key)
	}
	if key, ok := unkey.CustomRequestHeaders[guard.ProxyKey]; !ok || key != "" {
		t.Errorf("the service gets %s", guard.ProxyKey)
	}
	if ask.TrustForwardHeader == nil || *ask.TrustForwardHeader {
		t.Error("Traefik passes on the client's X-Forwarded-* as its own")
	}
	if !slices.Equal(ask.AuthResponseHeaders, copied) {
		t.Errorf("copied are %v, want %v", ask.AuthResponseHeaders, copied)
	}
	for _, name := range []string{"Authorization", "X-Api-Key", guard.ProxyKey} {
		if !slices.Contains(ask.AuthRequestHeaders, name) {
			t.Errorf("Tollgate does not get %s", name)
		}
	}
}
