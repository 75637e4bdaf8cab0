package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

var built string // the folder of the programs under test

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "tollgate-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built) //nolint:errcheck // it is in the temporary folder
	os.Exit(code)
}

var (
	tollgateBinary = sync.OnceValues(func() (string, error) { return build("tollgate", ".") })
	ordersBinary   = sync.OnceValues(func() (string, error) { return build("orders", "../sdk/examples/orders") })
)

func build(name, source string) (string, error) {
	file := filepath.Join(built, name)
	if out, err := exec.Command("go", "build", "-o", file, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", source, err, out)
	}
	return file, nil
}

// output is what a program printed so far.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{} // closed at the next write
}

func newOutput() *output { return &output{grown: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.grown)
	o.grown = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) now() (text string, grown <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.grown
}

func (o *output) String() string {
	text, _ := o.now()
	return text
}

// process is a running program.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{}
	err            error // of its end; read after exited
}

// run starts a program in dir with nothing in its environment but env. It is
// killed at the test's end, and its output shown if the test failed.
func run(t *testing.T, file func() (string, error), dir string, env []string, stdin string, args ...string) *process {
	t.Helper()
	path, err := file()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(path, args...), stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, append([]string{"TOLLGATE_BCRYPT_COST=4"}, env...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Stdin = p.stdout, p.stderr, strings.NewReader(stdin)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill(t)
		if t.Failed() {
			t.Logf("%s %s\nstdout:\n%s\nstderr:\n%s", filepath.Base(path), strings.Join(args, " "), p.stdout, p.stderr)
		}
	})
	return p
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.exited
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatal("the program does not end")
		return -1
	}
}

// says waits until the standard output matches, and returns the submatches.
func (p *process) says(t *testing.T, pattern *regexp.Regexp) []string {
	t.Helper()
	late := time.After(patience)
	for ended := false; ; {
		text, grown := p.stdout.now()
		if m := pattern.FindStringSubmatch(text); m != nil {
			return m
		}
		if ended {
			t.Fatalf("the program ended (%v) and did not say %s", p.err, pattern)
		}
		select {
		case <-grown:
		case <-p.exited:
			ended = true // what it said last is complete by now
		case <-late:
			t.Fatalf("the program does not say %s", pattern)
		}
	}
}

// tollgate is a running server.
type tollgate struct {
	*process
	client
	dir      string
	password string // of the first administrator, if it was made up at this start
}

var greeting = regexp.MustCompile(`(?s)Tollgate answers on (https?://\S+)\n(?:.*is shown only now.\n\n    (\S+)\n)?.*curl \S+/v1/audit/events`)

// serve starts a server in dir on a free port; env are further variables.
func serve(t *testing.T, dir string, env ...string) *tollgate {
	t.Helper()
	p := run(t, tollgateBinary, dir, env, "", "--listen", "127.0.0.1:0", "--metrics-listen=")
	said := p.says(t, greeting)
	return &tollgate{process: p, client: newClient(t, said[1]), dir: dir, password: said[2]}
}

const adminPassword = "correct horse battery"

// serveAdmin starts a server in a new folder with an administrator who is
// signed in.
func serveAdmin(t *testing.T) *tollgate {
	t.Helper()
	s := serve(t, t.TempDir(), "TOLLGATE_ADMIN_PASSWORD="+adminPassword)
	s.token = s.login(t, "admin", adminPassword).str("accessToken")
	return s
}

// again starts a server in the same folder after the end of this one; its
// clients stay signed in.
func (s *tollgate) again(t *testing.T) *tollgate {
	t.Helper()
	next := serve(t, s.dir)
	next.token = s.token
	return next
}

// client calls the API with one credential.
type client struct {
	url   string
	token string
	http  *http.Client
}

func newClient(t *testing.T, url string) client {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return client{url: url, http: &http.Client{Transport: transport, Timeout: patience}}
}

// as is the same client with another credential.
func (c client) as(token string) client {
	c.token = token
	return c
}

// object is a JSON object.
type object = map[string]any

// call makes a call; a body that is not a string is sent as its JSON.
func (c client) call(t testing.TB, method, path string, body any, header ...string) answer {
	t.Helper()
	a, err := c.try(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try is call for servers that may be gone. header is names and values in
// turns; they add to the usual ones, or replace them.
func (c client) try(ctx context.Context, method, path string, body any, header ...string) (answer, error) {
	var sent io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		sent = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		sent = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, sent)
	if err != nil {
		return answer{}, err
	}
	if sent != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Del(header[i])
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	if a.raw, err = io.ReadAll(res.Body); err != nil {
		return answer{}, err
	}
	json.Unmarshal(a.raw, &a.body) //nolint:errcheck // not every answer is an object
	return a, nil
}

func (c client) post(t testing.TB, path string, body any) answer {
	t.Helper()
	return c.call(t, "POST", path, body).want(t, http.StatusOK)
}

func (c client) get(t testing.TB, path string) answer {
	t.Helper()
	return c.call(t, "GET", path, nil).want(t, http.StatusOK)
}

func (c client) login(t testing.TB, name, password string) answer {
	t.Helper()
	return c.as("").post(t, "/v1/auth/login", object{"username": name, "password": password})
}

// changePassword gives a user who has just signed in another password.
func (c client) changePassword(t testing.TB, login answer, from, to string) {
	t.Helper()
	c.as(login.str("accessToken")).post(t, "/v1/users/"+login.str("userId")+"/password", object{"currentPassword": from, "newPassword": to})
}

// all reads every page of a list.
func (c client) all(t testing.TB, path, list string) []object {
	t.Helper()
	var found []object
	for token := ""; ; {
		page := c.get(t, path+"pageSize=100&pageToken="+token)
		found = append(found, page.list(list)...)
		if token = page.str("nextPageToken"); token == "" {
			return found
		}
	}
}

// events are the audit events that a query matches.
func (c client) events(t testing.TB, query string) []object {
	t.Helper()
	return c.all(t, "/v1/audit/events?"+query+"&", "events")
}

// newUser makes a user who holds these roles.
func (c client) newUser(t testing.TB, name, password string, roles ...string) (id string) {
	t.Helper()
	id = c.post(t, "/v1/users", object{"username": name, "password": password}).str("user", "id")
	for _, role := range roles {
		c.call(t, "PUT", "/v1/roles/"+role+"/members/"+id, object{}).want(t, http.StatusOK)
	}
	return id
}

// newService makes a service account that may verify and authorize, and
// returns an API key of it.
func (c client) newService(t testing.TB, name string) (key string) {
	t.Helper()
	id := c.post(t, "/v1/users", object{"username": name, "kind": "USER_KIND_SERVICE"}).str("user", "id")
	c.call(t, "PUT", "/v1/roles/service/members/"+id, object{}).want(t, http.StatusOK)
	return c.post(t, "/v1/api-keys", object{"userId": id, "name": "for tests"}).str("secret")
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	raw    []byte
	body   object
}

func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.raw)
	}
	return a
}

// at is the value at a path of names, nil when it is not there.
func (a answer) at(path ...string) any { return dig(a.body, path...) }

func dig(value any, path ...string) any {
	for _, name := range path {
		m, _ := value.(object)
		value = m[name]
	}
	return value
}

func (a answer) str(path ...string) string {
	s, _ := a.at(path...).(string)
	return s
}

func (a answer) list(path ...string) []object {
	values, _ := a.at(path...).([]any)
	list := make([]object, len(values))
	for i, v := range values {
		list[i], _ = v.(object)
	}
	return list
}

// detail is the detail of an error of this type, nil when it has none.
func (a answer) detail(kind string) object {
	for _, d := range a.list("details") {
		if d["type"] == kind {
			debug, _ := d["debug"].(object)
			return debug
		}
	}
	return nil
}

func (a answer) reason() string {
	reason, _ := a.detail("google.rpc.ErrorInfo")["reason"].(string)
	return reason
}

// eventually polls until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(patience); !done(); {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}
