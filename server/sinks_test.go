package main_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestSinks runs a server with a sink of each kind. The webhook is down for a while:
// /readyz tells, and nothing is lost.
func TestSinks(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	var mu sync.Mutex
	var received strings.Builder
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if down.Load() || r.Header.Get("webhook-signature") == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		received.Write(body)
	}))
	t.Cleanup(hook.Close)
	var objects sync.Map // and log records, by path
	bucket := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		objects.Store(r.URL.Path, string(body))
	}))
	t.Cleanup(bucket.Close)
	stored := func(part, says string) (found bool) {
		objects.Range(func(path, body any) bool {
			found = found || strings.Contains(path.(string), part) && strings.Contains(body.(string), says)
			return true
		})
		return found
	}
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	backendtest.Must(t, os.WriteFile(secret, []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), 0o600))
	file := filepath.Join(dir, "audit.ndjson")
	s := serve(t, dir, "TOLLGATE_ADMIN_PASSWORD="+adminPassword,
		"TOLLGATE_AUDIT_SINKS=archive=file:"+file+" siem="+hook.URL+"/#secret=file:"+secret+
			" bucket=s3://logs/audit#every=1s&endpoint="+bucket.URL+" otel=otlp:",
		"AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="+bucket.URL+"/v1/logs")
	admin := s.SignedIn(t, "admin", adminPassword)
	for n := range 10 {
		admin.Post(t, "/v1/roles", object{"name": fmt.Sprint("role-", n)})
	}
	ready := func() string {
		a := s.Get(t, "/readyz")
		return a.Str("audit_sink_archive") + ", " + a.Str("audit_sink_siem")
	}
	apitest.Eventually(t, "the file has the events, and the webhook is said to be down", func() bool {
		text, _ := os.ReadFile(file)
		return strings.Contains(string(text), "roles/role-9") && ready() == "ok, down"
	})
	down.Store(false)
	apitest.Eventually(t, "the webhook has the events", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(received.String(), "roles/role-9") && ready() == "ok, ok"
	})
	apitest.Eventually(t, "the bucket has segments and a signed checkpoint, the collector has events", func() bool {
		return stored("/logs/audit/0000", "") && stored("/logs/audit/checkpoints/", "\n\n\u2014 ") && stored("/v1/logs", "roles/role-9")
	})
	s.stop(t)
	text, err := os.ReadFile(file)
	backendtest.Must(t, err)
	for i, leaf := range leaves(t, string(text)) {
		backendtest.Equal(t, leaf, i, "leaf of the file")
	}
	mu.Lock()
	defer mu.Unlock()
	for i, leaf := range leaves(t, received.String()) {
		backendtest.Equal(t, leaf, i, "leaf of the webhook")
	}
	if said := s.stderr.String(); strings.Count(said, "audit sink fails") != 1 || strings.Count(said, "delivers again") != 1 || strings.Contains(said, "whsec") {
		t.Errorf("log: %s", said)
	}
}

// TestSinksAreChecked checks that a server with a sink that cannot work does not start.
func TestSinksAreChecked(t *testing.T) {
	t.Parallel()
	p := run(t, tollgateBinary, t.TempDir(), nil, "", "--listen", "127.0.0.1:0", "--metrics-listen=", "--audit-sink", "siem=https://siem.example/#secret=hunter2")
	if code := p.wait(t); code != 1 || !strings.Contains(p.stderr.String(), "--audit-sink: sink siem: secret must be file:PATH or env:VARIABLE") || strings.Contains(p.stderr.String(), "hunter2") {
		t.Errorf("exit code %d", code)
	}
}

// TestSinkKilled kills the server while it writes a file, twice. The file has every
// leaf once, in its order, in whole lines.
func TestSinkKilled(t *testing.T) {
	t.Parallel()
	backendtest.DatabaseURLs(t, func(t *testing.T, address string) {
		t.Parallel()
		dir := t.TempDir()
		file := filepath.Join(dir, "audit")
		env := []string{
			"TOLLGATE_ADMIN_PASSWORD=" + adminPassword, "TOLLGATE_DATABASE_URL=" + address, "TOLLGATE_AUDIT_SINKS=archive=file:" + file + "#rotate=64KB&keep=1000&batch=50",
			"TOLLGATE_MASTER_KEY=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
		}
		written := func() (text string) {
			rotated, _ := filepath.Glob(file + ".*")
			for n := len(rotated); n > 0; n-- {
				part, _ := os.ReadFile(file + "." + strconv.Itoa(n))
				text += string(part)
			}
			part, _ := os.ReadFile(file)
			return text + string(part)
		}
		for round := range 3 {
			s := serve(t, dir, env...)
			admin := s.SignedIn(t, "admin", adminPassword)
			before := len(written())
			for n := range 5 {
				admin.Post(t, "/v1/audit/events/batch", object{"events": batchOf(10*round+n, 200)})
			}
			if round == 2 {
				apitest.Eventually(t, "the file has everything", func() bool { return strings.Contains(written(), "things/24-199") })
				s.stop(t)
				break
			}
			apitest.Eventually(t, "the file grows", func() bool { return len(written()) > before+20_000 })
			s.kill(t)
		}
		all := leaves(t, written())
		if want := slices.Sorted(slices.Values(all)); !slices.Equal(all, want) || all[0] != 0 || all[len(all)-1] != len(all)-1 {
			t.Errorf("%d leaves, not each once and in order", len(all))
		}
	})
}
