package main_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// backends are an empty PostgreSQL schema and an empty Redis, with a proxy in
// front of each.
type backends struct {
	postgres, redis           string // URLs
	postgresProxy, redisProxy *backendtest.Proxy
}

func newBackends(t *testing.T) *backends {
	t.Helper()
	b := &backends{postgres: backendtest.PostgreSQLURL(t), redis: backendtest.EmptyRedisURL(t)}
	b.postgresProxy, b.redisProxy = backendtest.NewProxy(t, b.postgres), backendtest.NewProxy(t, b.redis)
	return b
}

var servicesProgram = sync.OnceValues(func() (string, error) {
	file := filepath.Join(built, "services")
	if out, err := exec.Command("go", "build", "-C", "../tools", "-o", file, "./services").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build services: %w\n%s", err, out)
	}
	return file, nil
})

// killable is a PostgreSQL of the test's own that it can kill.
type killable struct{ url, bin, data string }

// newKillable starts a PostgreSQL that ends with the test, from local programs:
// one in a container could not be killed.
func newKillable(t *testing.T) *killable {
	t.Helper()
	program, err := servicesProgram()
	backendtest.Must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	// It lasts until its standard input ends: when we do, at the latest.
	cmd := exec.CommandContext(ctx, program, "exec", "--local", "--", "sh", "-c", "env | grep ^TOLLGATE_TEST_; echo; cat >/dev/null")
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TOLLGATE_TEST_POSTGRES") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	stdin, err := cmd.StdinPipe()
	backendtest.Must(t, err)
	stdout, err := cmd.StdoutPipe()
	backendtest.Must(t, err)
	log := newOutput()
	cmd.Stderr = log
	backendtest.Must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		cancel()
	})
	m := &killable{}
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != ""; {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch name {
		case "TOLLGATE_TEST_POSTGRES_URL":
			m.url = value
		case "TOLLGATE_TEST_POSTGRES_BIN":
			m.bin = value
		case "TOLLGATE_TEST_POSTGRES_DATA":
			m.data = value
		}
	}
	if m.bin == "" || m.data == "" {
		t.Fatalf("no PostgreSQL started that can be killed (TOLLGATE_TEST_POSTGRES_BIN and _DATA): install its programs\n%s", log)
	}
	return m
}

// kill kills the postmaster; its child processes exit when they notice.
func (m *killable) kill(t *testing.T) {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(m.data, "postmaster.pid"))
	backendtest.Must(t, err)
	first, _, _ := strings.Cut(string(pid), "\n")
	n, err := strconv.Atoi(first)
	backendtest.Must(t, err)
	backendtest.Must(t, syscall.Kill(n, syscall.SIGKILL))
}

// start restarts PostgreSQL on the same port and waits until it accepts
// connections.
func (m *killable) start(t *testing.T) {
	t.Helper()
	owner, err := os.Stat(m.data)
	backendtest.Must(t, err)
	var said []byte
	apitest.Eventually(t, "PostgreSQL starts again", func() bool {
		// Until the last process of before is gone this fails.
		cmd := exec.Command(filepath.Join(m.bin, "pg_ctl"), "start", "-w", "-D", m.data, "-l", filepath.Join(m.data, "again.log"))
		cmd.Dir = m.data
		if stat, ok := owner.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Getuid() {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}}
		}
		said, err = cmd.CombinedOutput()
		return err == nil
	})
	u, err := url.Parse(m.url)
	backendtest.Must(t, err)
	conn, err := net.DialTimeout("tcp", u.Host, time.Second)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	conn.Close()
}
