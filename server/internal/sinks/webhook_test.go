package sinks

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestSignature is the example of the Standard Webhooks' own libraries.
func TestSignature(t *testing.T) {
	t.Parallel()
	secrets, err := signingSecrets(testSecret)
	backendtest.Must(t, err)
	backendtest.Equal(t, signature(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)),
		"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "signature")
}

// hook is a webhook's receiver.
type hook struct {
	*httptest.Server

	mu       sync.Mutex
	respond  func(w http.ResponseWriter) // nil: 204
	requests []*http.Request
	bodies   []string
}

func newHook(t *testing.T, start func(http.Handler) *httptest.Server) *hook {
	t.Helper()
	h := &hook{}
	h.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.requests, h.bodies = append(h.requests, r), append(h.bodies, string(body))
		respond := h.respond
		h.mu.Unlock()
		if respond != nil {
			respond(w)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(h.Close)
	return h
}

// answer has the receiver answer so from now on.
func (h *hook) answer(respond func(w http.ResponseWriter)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.respond = respond
}

// secretFile keeps a secret in a file.
func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	backendtest.Must(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
	return path
}

func openHook(t *testing.T, clk clock.Clock, url, options string) Sink {
	t.Helper()
	targets, err := Parse([]string{"siem=" + url + "#secret=file:" + secretFile(t, testSecret) + options}, env(clk))
	backendtest.Must(t, err)
	sink, err := targets[0].Open()
	backendtest.Must(t, err)
	t.Cleanup(func() { sink.Close() })
	return sink
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	h := newHook(t, httptest.NewServer)
	clk := clock.NewFake(start).Clock()
	sink := openHook(t, clk, h.URL+"/in?pipeline=audit", "&authorization=file:"+secretFile(t, "Splunk 123"))
	for range 2 { // the same batch has the same id
		backendtest.Must(t, sink.Deliver(t.Context(), batch(7, 9)))
	}
	r, body := h.requests[0], h.bodies[0]
	for name, want := range map[string]string{
		"webhook-id": "id-7-7-8", "webhook-timestamp": strconv.FormatInt(start.Unix(), 10), "Content-Type": "application/x-ndjson",
		"Authorization": "Splunk 123", "User-Agent": "tollgate",
	} {
		backendtest.Equal(t, r.Header.Get(name), want, "%s", name)
		backendtest.Equal(t, h.requests[1].Header.Get(name), want, "%s", name)
	}
	backendtest.Equal(t, r.URL.String(), "/in?pipeline=audit", "URL")
	secrets, err := signingSecrets(testSecret)
	backendtest.Must(t, err)
	backendtest.Equal(t, r.Header.Get("webhook-signature"), signature(secrets, "id-7-7-8", strconv.FormatInt(start.Unix(), 10), []byte(body)), "signature")
	if strings.Count(body, "\n") != 2 || !strings.HasPrefix(body, `{"leaf":7,`) {
		t.Errorf("body %q", body)
	}
}

// TestWebhookFailures checks what does not confirm, and that errors show no secret.
func TestWebhookFailures(t *testing.T) {
	t.Parallel()
	h := newHook(t, httptest.NewServer)
	elsewhere := newHook(t, httptest.NewServer)
	clk := clock.NewFake(start).Clock()
	sink := openHook(t, clk, h.URL+"/token-in-the-path?token=hunter2", "")
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		says   string
		wait   time.Duration
	}{
		"redirect": {func(w http.ResponseWriter) { w.Header().Set("Location", elsewhere.URL); w.WriteHeader(307) }, "redirects are not followed", 0},
		"busy":     {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "120"); w.WriteHeader(503) }, "503", 2 * time.Minute},
		"for ages": {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "99999999"); w.WriteHeader(429) }, "429", maxRetryAfter},
		"at a time": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", start.Add(time.Minute).Format(http.TimeFormat))
			w.WriteHeader(503)
		}, "503", time.Minute},
		"large":       {func(w http.ResponseWriter) { w.WriteHeader(413) }, errTooLarge.Error(), 0},
		"refused":     {func(w http.ResponseWriter) { w.WriteHeader(401) }, "401", 0},
		"it breaks":   {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "EOF", 0},
		"long answer": {func(w http.ResponseWriter) { w.WriteHeader(500); w.Write([]byte(strings.Repeat("x", 1<<20))) }, "500", 0},
	} {
		h.answer(c.answer)
		err := sink.Deliver(t.Context(), batch(0, 1))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		said, _ := errors.AsType[after](err)
		backendtest.Equal(t, said.wait, c.wait, "%s", name)
	}
	backendtest.Equal(t, len(elsewhere.requests), 0, "requests at where a redirect leads")

	h.answer(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Close()
	for _, ctx := range []context.Context{ctx, t.Context()} {
		if err := sink.Deliver(ctx, batch(0, 1)); err == nil || strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("no answer: %v", err)
		}
	}
}

// TestWebhookTLS checks that a certificate of an unknown authority is refused, and taken
// when the authority is configured.
func TestWebhookTLS(t *testing.T) {
	t.Parallel()
	h := newHook(t, httptest.NewTLSServer)
	h.Config.ErrorLog = nil
	if err := openHook(t, clock.Real(), h.URL, "").Deliver(t.Context(), batch(0, 1)); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an unknown authority: %v", err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	backendtest.Must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o600))
	backendtest.Must(t, openHook(t, clock.Real(), h.URL, "&ca="+ca).Deliver(t.Context(), batch(0, 1)))
	backendtest.Equal(t, len(h.requests), 1, "requests")
}

// TestSecretsRotate checks that a receiver which knows either secret is content.
func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	next := "whsec_" + base64.StdEncoding.EncodeToString([]byte("a second secret of 32 bytes....."))
	both, err := signingSecrets(testSecret + " " + next)
	backendtest.Must(t, err)
	old, err := signingSecrets(testSecret)
	backendtest.Must(t, err)
	all := strings.Fields(signature(both, "id", "1", nil))
	backendtest.Equal(t, len(all), 2, "signatures")
	backendtest.Equal(t, all[0], signature(old, "id", "1", nil), "the old one")
}
