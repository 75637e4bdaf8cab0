package app

import (
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// root is the repository's.
const root = "../../.."

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	backendtest.Must(t, err)
	return string(text)
}

type composeService struct {
	Build       any               `yaml:"build"`
	Image       string            `yaml:"image"`
	Restart     string            `yaml:"restart"`
	Ports       []string          `yaml:"ports"`
	User        string            `yaml:"user"`
	ReadOnly    bool              `yaml:"read_only"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	Command     any               `yaml:"command"`
	CapDrop     []string          `yaml:"cap_drop"`
}

func compose(t *testing.T) map[string]composeService {
	t.Helper()
	var file struct {
		Services map[string]composeService `yaml:"services"`
	}
	backendtest.Must(t, yaml.Unmarshal([]byte(read(t, "docker-compose.yml")), &file))
	return file.Services
}

// settings are all variables that the program knows.
func settings() []string {
	var names []string
	for field := range reflect.TypeFor[Config]().Fields() {
		if name := field.Tag.Get("env"); name != "" {
			names = append(names, strings.Split(name, ",")...)
		}
	}
	for _, name := range Secrets() {
		names = append(names, name+"_FILE")
	}
	return names
}

func TestCompose(t *testing.T) {
	services := compose(t)
	server := services["server"]
	for name := range server.Environment {
		if !slices.Contains(settings(), name) {
			t.Errorf("the server has no setting %s", name)
		}
	}
	if want := []string{"${TOLLGATE_PUBLISH:-127.0.0.1}:8000:8000", "${TOLLGATE_PUBLISH:-127.0.0.1}:9000:9000"}; !slices.Equal(server.Ports, want) {
		t.Errorf("published ports are %v, want only %v: this machine, unless set otherwise", server.Ports, want)
	}
	if server.User != "65532:65532" || !server.ReadOnly || !slices.Contains(server.CapDrop, "ALL") {
		t.Error("the server's container has rights that it does not need")
	}
	for name, s := range services {
		if s.Build == nil && !exactImage.MatchString(s.Image) {
			t.Errorf("%s: image %q has no exact version", name, s.Image)
		}
		if name != "server" && len(s.Ports) > 0 {
			t.Errorf("%s is published at %v", name, s.Ports)
		}
		for _, volume := range s.Volumes {
			if strings.HasPrefix(volume, "secrets-") && name != "secrets" && (!strings.HasPrefix(volume, "secrets-"+name+":") || !strings.HasSuffix(volume, ":ro")) {
				t.Errorf("%s mounts %q: it may only read its own secrets", name, volume)
			}
		}
		for variable, value := range s.Environment {
			if isSecret(variable) {
				t.Errorf("%s: %s=%s is a secret in the file", name, variable, value)
			}
		}
	}
	// Tests with a container engine run what is deployed.
	for service, source := range map[string]string{"postgres": "postgres.go", "redis": "redis.go"} {
		if want := `"docker.io/library/` + services[service].Image + `"`; !strings.Contains(read(t, "tools/services/"+source), want) {
			t.Errorf("tools/services/%s has another image than %s", source, want)
		}
	}
}

// exactImage has every number of the version, that of the system below it too.
var exactImage = regexp.MustCompile(`^(postgres:\d+\.\d+-alpine\d+\.\d+|(redis|golang):\d+\.\d+\.\d+-alpine\d+\.\d+|alpine:\d+\.\d+\.\d+)(@sha256:[0-9a-f]{64})?$`)

// A network's gateway stands for every client of a published port: trusting a
// network lets each of them forge its address. What is commented out is advice,
// too.
func TestCompose_trustedProxies(t *testing.T) {
	trusted := regexp.MustCompile(`TOLLGATE_TRUSTED_PROXIES\S*[:=]\s*(\S+)`).FindAllStringSubmatch(read(t, "docker-compose.yml")+read(t, "Dockerfile"), -1)
	if len(trusted) == 0 {
		t.Error("nothing is said about reverse proxies")
	}
	for _, m := range trusted {
		if _, err := netip.ParseAddr(m[1]); err != nil {
			t.Errorf("%s: not one address", m[0])
		}
	}
}

// isSecret says whether a variable's value is one; the name of a file with it
// is not.
func isSecret(variable string) bool {
	return slices.Contains(Secrets(), variable) || regexp.MustCompile(`PASSWORD$|SECRET$|TOKEN$|KEY$`).MatchString(variable)
}

// The one-shot service makes every file that the others read, once, and shows
// none of them. Its script runs here as it would there.
func TestCompose_secrets(t *testing.T) {
	t.Parallel()
	services := compose(t)
	command, ok := services["secrets"].Command.([]any)
	if !ok || len(command) != 3 {
		t.Fatalf("the command is %v", services["secrets"].Command)
	}
	dir := t.TempDir()
	for _, volume := range []string{"server", "postgres", "redis"} {
		backendtest.Must(t, os.Mkdir(filepath.Join(dir, volume), 0o755))
	}
	script := strings.NewReplacer("$$", "$", "/secrets\n", dir+"\n", "chown -R 65532:65532", "true").Replace(command[2].(string))
	run := func() string {
		out, err := exec.Command("sh", command[1].(string), script).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	readAll := func() map[string]string {
		all := map[string]string{}
		for name, s := range services {
			for variable, at := range s.Environment {
				if strings.HasSuffix(variable, "_FILE") {
					content, err := os.ReadFile(filepath.Join(dir, name, path.Base(at)))
					if err != nil {
						t.Errorf("%s of %s: %v", variable, name, err)
					}
					all[name+" "+variable] = strings.TrimRight(string(content), "\n")
				}
			}
		}
		return all
	}
	shown := run()
	first := readAll()
	for what, secret := range first {
		if secret == "" || strings.Contains(shown, secret) {
			t.Errorf("%s is empty or in the log", what)
		}
	}
	if run(); !reflect.DeepEqual(first, readAll()) {
		t.Error("the second run changed a secret")
	}

	// What they make is what the server takes.
	config := testConfig(first["server TOLLGATE_DATABASE_URL_FILE"])
	if !strings.Contains(config.DatabaseURL, ":"+first["postgres POSTGRES_PASSWORD_FILE"]+"@postgres:5432/") {
		t.Error("the server's password is not PostgreSQL's")
	}
	if client, err := openRedis(first["server TOLLGATE_REDIS_URL_FILE"]); err != nil {
		t.Error(err)
	} else {
		client.Close()
	}
	config.MasterKey = first["server TOLLGATE_MASTER_KEY_FILE"]
	if _, err := openMaster(t.Context(), config); err != nil {
		t.Error(err)
	}
	if len(first["server TOLLGATE_ADMIN_PASSWORD_FILE"]) < 20 {
		t.Error("the administrator's password is short")
	}
}

func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	_, final, ok := strings.Cut(text, "\nFROM scratch\n")
	if !ok || !strings.Contains(final, "\nUSER 65532:65532\n") {
		t.Error("the last stage is not FROM scratch, as a user without rights")
	}
	for _, m := range regexp.MustCompile(`TOLLGATE_[A-Z_]+`).FindAllString(text, -1) {
		if !slices.Contains(settings(), m) || isSecret(m) {
			t.Errorf("%s is no setting, or a secret in a layer", m)
		}
	}
	goMod := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	from := regexp.MustCompile(`(?m)^FROM (?:--platform=\S+ )?(golang:(\d+\.\d+)\S*)`).FindStringSubmatch(text)
	if from == nil || goMod == nil || from[2] != goMod[1] || !exactImage.MatchString(from[1]) {
		t.Errorf("the build's image is %v, want an exact version of Go %v", from, goMod)
	}
}

// Every file that the server is made of gets into the build.
func TestDockerIgnore(t *testing.T) {
	t.Parallel()
	var ignored []string
	for line := range strings.Lines(read(t, ".dockerignore")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			ignored = append(ignored, line)
		}
	}
	for _, never := range []string{".git", "**/*.key", "**/*.db", "**/.env*"} {
		if !slices.Contains(ignored, never) {
			t.Errorf("%s gets into the build", never)
		}
	}
	list := exec.Command("go", "list", "-deps", "-f",
		`{{if not .Standard}}{{with .Module}}{{if .Main}}{{range $.GoFiles}}{{$.ImportPath}}/{{.}}{{"\n"}}{{end}}{{range $.EmbedFiles}}{{$.ImportPath}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}`, "./server")
	list.Dir = root
	out, err := list.Output()
	backendtest.Must(t, err)
	files := strings.Fields(string(out))
	if len(files) < 50 {
		t.Fatalf("the server has only %d files", len(files))
	}
	for _, file := range append(files, "go.mod", "go.sum") {
		file = strings.TrimPrefix(file, "github.com/tollgatehq/tollgate/")
		for _, pattern := range ignored {
			name, anywhere := strings.CutPrefix(pattern, "**/")
			for i, part := range strings.Split(file, "/") {
				if hit, _ := path.Match(name, part); hit && (anywhere || i == 0) {
					t.Errorf("%s is needed and ignored by %s", file, pattern)
				}
			}
		}
	}
}
