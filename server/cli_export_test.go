package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// leaves are the leaves of an export's lines.
func leaves(t *testing.T, text string) (all []int) {
	t.Helper()
	for line := range strings.Lines(text) {
		var event struct{ Leaf *int }
		if err := json.Unmarshal([]byte(line), &event); err != nil || event.Leaf == nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, *event.Leaf)
	}
	return all
}

// TestCLIExport exports to a file, cuts it as an outage would, and resumes.
func TestCLIExport(t *testing.T) {
	t.Parallel()
	s, sh := serveShell(t)
	for n := range 40 {
		s.Post(t, "/v1/roles", object{"name": fmt.Sprint("role-", n)})
	}
	var whole string
	apitest.Eventually(t, "the tree holds the log", func() bool {
		whole = sh.do(t, "audit", "export")
		return strings.Contains(whole, "roles/role-39")
	})
	for i, leaf := range leaves(t, whole) {
		backendtest.Equal(t, leaf, i, "leaf")
	}
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	sh.do(t, "audit", "export", "--out", path)
	sh.fails(t, 1, "is there already; --resume", "audit", "export", "--out", path)
	for _, size := range []int{0, 1, len(whole) / 2, len(whole) - 1, len(whole)} {
		backendtest.Must(t, os.Truncate(path, int64(size)))
		sh.do(t, "audit", "export", "--out", path, "--resume")
		text, err := os.ReadFile(path)
		backendtest.Must(t, err)
		if !strings.HasPrefix(string(text), whole) {
			t.Errorf("resumed after %d bytes: %d bytes, want %d and what is new", size, len(text), len(whole))
		}
		backendtest.Must(t, os.Truncate(path, int64(len(whole))))
	}
	for format, says := range map[string]string{"csv": "leaf,id,time,", "ocsf": `"class_uid":3002`} {
		contains(t, sh.do(t, "audit", "export", "--format", format, "--after", "1h"), says, "admin")
	}
	backendtest.Equal(t, sh.do(t, "audit", "export", "--before", "2020-01-01T00:00:00Z"), "", "long ago")
	sh.fails(t, 1, "--resume needs --out", "audit", "export", "--resume")
	sh.fails(t, 1, "is no export as csv", "audit", "export", "--format", "csv", "--out", path, "--resume")
	sh.fails(t, 1, "--after", "audit", "export", "--after", "yesterday")
	s.stop(t)
	sh.fails(t, 1, "the export is not complete", "audit", "export", "--retry-for", "0s")
}

// TestCLIExportGoesOn breaks each of its connections after 30 KB. The export goes on
// over the next one, and has every leaf once.
func TestCLIExportGoesOn(t *testing.T) {
	t.Parallel()
	s := serveAdmin(t)
	for n := range 20 {
		s.Post(t, "/v1/audit/events/batch", object{"events": batchOf(n, 200)})
	}
	sh := newShell(t, breaking(t, s.URL, 30_000))
	sh.login(t, "admin", adminPassword)
	var text, stderr string
	apitest.Eventually(t, "the tree holds the log", func() bool {
		var code int
		code, text, stderr = sh.try(t, "", "audit", "export")
		return code == 0 && strings.Contains(text, "things/19-199")
	})
	if broken := strings.Count(stderr, "trying again"); broken < 2 {
		t.Errorf("%d connections were broken: %s", broken, stderr)
	}
	for i, leaf := range leaves(t, text) {
		backendtest.Equal(t, leaf, i, "leaf")
	}
}

// batchOf is what a service records at once.
func batchOf(n, size int) (events []object) {
	for i := range size {
		events = append(events, object{
			"action": "order.cancel", "outcome": "OUTCOME_SUCCESS", "resource": fmt.Sprintf("things/%d-%d", n, i), "actor": object{"username": "anna"},
		})
	}
	return events
}

// breaking is the address of a proxy that resets every connection after it has brought
// this many bytes from the server.
func breaking(t *testing.T, url string, bytes int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				near.Close()
				continue
			}
			go io.Copy(far, near)
			go func() {
				io.CopyN(near, far, bytes)
				near.(*net.TCPConn).SetLinger(0)
				near.Close()
				far.Close()
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}
