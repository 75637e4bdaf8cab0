package main_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

var built string // the folder of the programs under test

func TestMain(m *testing.M) {
	if os.Getenv(nullVariable) != "" {
		if err := serveNull(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Most of these tests wait for programs, so more of them run at once than
	// there are processors.
	err := flag.Set("test.parallel", "4")
	if err == nil {
		built, err = os.MkdirTemp("", "tollgate-e2e-")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built)
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

// output collects what a program prints.
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

type process struct {
	cmd            *exec.Cmd
	stdout, stderr *output
	exited         chan struct{}
	err            error // of its end; read after exited
}

// run starts a program in dir with only env as its environment. The test's end
// kills it, and shows its output if the test failed.
func run(t *testing.T, file func() (string, error), dir string, env []string, stdin string, args ...string) *process {
	t.Helper()
	path, err := file()
	backendtest.Must(t, err)
	p := &process{cmd: exec.Command(path, args...), stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, append([]string{"TOLLGATE_BCRYPT_COST=4", "TOLLGATE_METRICS_LISTEN=127.0.0.1:0"}, env...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Stdin = p.stdout, p.stderr, strings.NewReader(stdin)
	backendtest.Must(t, p.cmd.Start())
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

// wait waits for the program's end and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(apitest.Timeout):
		t.Fatal("the program does not end")
		return -1
	}
}

// stop ends the program as an operator does, which must leave exit code 0.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// says waits until the standard output matches, and returns the submatches.
func (p *process) says(t *testing.T, pattern *regexp.Regexp) []string {
	t.Helper()
	late := time.After(apitest.Timeout)
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

type tollgate struct {
	*process
	apitest.Client
	dir      string
	password string // of the first administrator, if it was made up at this start
}

var greeting = regexp.MustCompile(`(?s)Tollgate answers on (https?://\S+)\n(?:.*is shown only now.\n\n    (\S+)\n)?.*curl \S+/v1/audit/events`)

// serve starts a server in dir on a free port, with more variables in env.
func serve(t *testing.T, dir string, env ...string) *tollgate {
	t.Helper()
	p := run(t, tollgateBinary, dir, env, "", "--listen", "127.0.0.1:0", "--metrics-listen=")
	said := p.says(t, greeting)
	return &tollgate{process: p, Client: apitest.New(t, said[1]), dir: dir, password: said[2]}
}

const adminPassword = "correct horse battery"

// serveAdmin starts a server in a new directory and signs its administrator in.
func serveAdmin(t *testing.T) *tollgate {
	t.Helper()
	s := serve(t, t.TempDir(), "TOLLGATE_ADMIN_PASSWORD="+adminPassword)
	s.Token = s.Login(t, "admin", adminPassword).Str("accessToken")
	return s
}

// again starts the next server in the same directory; it keeps the token.
func (s *tollgate) again(t *testing.T) *tollgate {
	t.Helper()
	next := serve(t, s.dir)
	next.Token = s.Token
	return next
}

type object = apitest.Object
