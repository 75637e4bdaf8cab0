package sinks

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// versityGW starts an S3 server that others wrote, with files for objects, and returns its
// address and a func that reads the objects. `make test-s3` has it; without it the tests'
// own bucket takes its place.
func versityGW(t *testing.T) (url string, objects func() map[string]string) {
	t.Helper()
	binary := os.Getenv("TOLLGATE_VERSITYGW")
	if binary == "" {
		b := newBucket(t)
		b.region = "eu-central-1"
		return b.URL, func() map[string]string {
			b.mu.Lock()
			defer b.mu.Unlock()
			all := map[string]string{}
			for name, content := range b.objects {
				all[strings.TrimPrefix(name, "/logs/")] = string(content)
			}
			return all
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	backendtest.Must(t, os.MkdirAll(filepath.Join(data, "logs"), 0o700))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	address := listener.Addr().String()
	listener.Close()
	server := exec.Command(binary, "--access", exampleKey, "--secret", exampleSecret, "--port", address, "--region", "eu-central-1", "--quiet", "posix", data)
	backendtest.Must(t, server.Start())
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	apitest.Eventually(t, "the S3 server answers", func() bool {
		res, err := http.Get("http://" + address)
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
	return "http://" + address, func() map[string]string {
		all := map[string]string{}
		bucket := os.DirFS(filepath.Join(data, "logs"))
		backendtest.Must(t, fs.WalkDir(bucket, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || strings.HasPrefix(path, ".") {
				return err
			}
			content, err := fs.ReadFile(bucket, path)
			all[path] = string(content)
			return err
		}))
		return all
	}
}

// TestS3FollowsTheLog has instances that are killed follow the log into a bucket.
func TestS3FollowsTheLog(t *testing.T) {
	t.Parallel()
	f := newFixture(backendtest.SQLite(t))
	url, objects := versityGW(t)
	signing := env(clock.Real()) // the server compares the time of a signature with its own
	secret := secretFile(t, `{"AccessKeyId": "`+exampleKey+`", "SecretAccessKey": "`+exampleSecret+`"}`)
	targets, err := Parse([]string{"test=s3://logs/audit#batch=100&every=1s&region=eu-central-1&endpoint=" + url + "&credentials=file:" + secret}, signing)
	backendtest.Must(t, err)
	for range 3 {
		f.add(t, 230)
		r := f.instance(targets[0])
		_, err := r.step(t.Context())
		backendtest.Must(t, err)
		f.fake.Advance(lease + time.Second)
	}
	r := f.instance(targets[0])
	drain(t, r)
	f.fake.Advance(2 * time.Second)
	drain(t, r)
	if s := r.status(); s.Failing || s.Lag != 0 {
		t.Fatalf("status %+v, log %s", s, &f.logged)
	}
	var all []int64
	found := objects()
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if strings.Contains(name, "/checkpoints/") {
			continue
		}
		for line := range strings.Lines(unpack(t, []byte(found[name]))) {
			var leaf int64
			_, err := fmt.Sscanf(line, `{"leaf":%d,`, &leaf)
			backendtest.Must(t, err)
			all = append(all, leaf)
		}
	}
	wantLeaves(t, all, 0, int64(f.written))
	if found["audit/checkpoints/00000000000000000042"] == "" {
		t.Error("there is no checkpoint")
	}
	// A wrong secret is refused by the server that others wrote, too.
	wrong, err := Parse([]string{"test=s3://logs/audit#region=eu-central-1&endpoint=" + url + "&credentials=file:" +
		secretFile(t, `{"AccessKeyId": "`+exampleKey+`", "SecretAccessKey": "wrong"}`)}, signing)
	backendtest.Must(t, err)
	sink, err := wrong[0].Open()
	backendtest.Must(t, err)
	if os.Getenv("TOLLGATE_VERSITYGW") != "" {
		if err := sink.Deliver(t.Context(), batch(0, 1)); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
			t.Errorf("a wrong secret: %v", err)
		}
	}
}
