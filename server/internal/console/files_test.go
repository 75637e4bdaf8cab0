package console

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

const page, script = "<!doctype html>the page", "console.log(1);"

func serve(t *testing.T, o Options) http.Handler {
	t.Helper()
	o.Files = fstest.MapFS{
		"index.html":          {Data: []byte(page)},
		"favicon.svg":         {Data: []byte("<svg/>")},
		".git/config":         {Data: []byte("secret")},
		".env":                {Data: []byte("secret")},
		"assets/index-abc.js": {Data: []byte(strings.Repeat(script, 500))},
	}
	o.Keep = func(http.ResponseWriter) {}
	o.Refuse = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusForbidden)
	}
	handler, err := New(o)
	backendtest.Must(t, err)
	return handler
}

func get(t *testing.T, handler http.Handler, method, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Result()
}

func read(t *testing.T, from io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(from)
	backendtest.Must(t, err)
	return string(text)
}

// TestFiles: every path is a file of the console, its page, or not found.
func TestFiles(t *testing.T) {
	t.Parallel()
	h := serve(t, Options{})
	for path, want := range map[string]string{
		"/console/": page, "/console/index.html": page, "/console/users/42": page, "/console/roles/orders.read": page,
		"/console/favicon.svg": "<svg/>", "/console/assets/index-abc.js": strings.Repeat(script, 500),
		"/console/.env": page, "/console/.git/config": page, "/console/assets": "", "/console/assets/": "",
		"/console/assets/index-old.js": "", "/console/session": "", "/console/session/": "", "/console/session/other": "",
		"/console/%2e%2e%2f%2e%2e%2fetc%2fpasswd": page, "/console/..%5c..%5cetc": page, "/console/a%00b": page, "/console/" + strings.Repeat("a/", 1000): page,
	} {
		res := get(t, h, "GET", path)
		body := read(t, res.Body)
		switch {
		case want == "" && (res.StatusCode < 300 || strings.Contains(body, page)):
			t.Errorf("%.40s is %d: %s", path, res.StatusCode, body)
		case want != "" && (res.StatusCode != http.StatusOK || body != want):
			t.Errorf("%.40s is %d: %.60s", path, res.StatusCode, body)
		}
		if strings.Contains(body, "secret") {
			t.Errorf("%s shows a hidden file", path)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
		for _, path := range []string{"/console", "/console/", "/console/assets/index-abc.js"} {
			if res := get(t, h, method, path); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d", method, path, res.StatusCode)
			}
		}
	}
	for _, path := range []string{"/console/session/login", "/console/session/refresh", "/console/session/logout"} {
		for _, method := range []string{"GET", "HEAD", "PUT"} {
			if res := get(t, h, method, path, "Sec-Fetch-Site", "same-origin"); res.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, res.StatusCode)
			}
		}
	}
	if res := get(t, h, "GET", "/console?next=//evil.example"); res.StatusCode != http.StatusPermanentRedirect || res.Header.Get("Location") != "/console/" {
		t.Errorf("/console: %d to %s", res.StatusCode, res.Header.Get("Location"))
	}
}

// TestCaching: assets are kept for good, the page is asked for each time, and what a
// browser has already is not sent.
func TestCaching(t *testing.T) {
	t.Parallel()
	h := serve(t, Options{})
	for path, want := range map[string]string{
		"/console/": "no-cache", "/console/users": "no-cache", "/console/favicon.svg": "no-cache",
		"/console/assets/index-abc.js": "public, max-age=31536000, immutable",
	} {
		res := get(t, h, "GET", path)
		if got := res.Header.Get("Cache-Control"); got != want {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
		tag := res.Header.Get("Etag")
		again := get(t, h, "GET", path, "If-None-Match", tag)
		if again.StatusCode != http.StatusNotModified || read(t, again.Body) != "" || tag == "" {
			t.Errorf("%s with its tag %s: %d", path, tag, again.StatusCode)
		}
		if head := get(t, h, "HEAD", path); head.Header.Get("Etag") != tag || head.Header.Get("Content-Length") != res.Header.Get("Content-Length") || read(t, head.Body) != "" {
			t.Errorf("HEAD %s: %v", path, head.Header)
		}
	}
}

// TestCompression: what is worth it is sent compressed to those who take it, under a tag
// of its own; parts are of the plain bytes.
func TestCompression(t *testing.T) {
	t.Parallel()
	h := serve(t, Options{})
	const asset = "/console/assets/index-abc.js"
	plain := get(t, h, "GET", asset)
	for accepted, packed := range map[string]bool{
		"gzip": true, "br, GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=0.0": false, "br": false, "": false, "x-gzip": false, "*": false,
	} {
		res := get(t, h, "GET", asset, "Accept-Encoding", accepted)
		if got := res.Header.Get("Content-Encoding") == "gzip"; got != packed || res.Header.Get("Vary") != "Accept-Encoding" ||
			packed == (res.Header.Get("Etag") == plain.Header.Get("Etag")) {
			t.Errorf("%q: %v", accepted, res.Header)
		}
		if packed {
			unpacked, err := gzip.NewReader(res.Body)
			backendtest.Must(t, err)
			backendtest.Equal(t, read(t, unpacked), strings.Repeat(script, 500), "unpacked")
		}
	}
	part := get(t, h, "GET", asset, "Accept-Encoding", "gzip", "Range", "bytes=0-6")
	if part.StatusCode != http.StatusPartialContent || read(t, part.Body) != script[:7] || part.Header.Get("Content-Encoding") != "" {
		t.Errorf("a part: %d %v", part.StatusCode, part.Header)
	}
	if res := get(t, h, "GET", asset, "Range", "bytes=9999999-"); res.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("a part past the end: %d", res.StatusCode)
	}
	if res := get(t, h, "GET", "/console/", "Accept-Encoding", "gzip"); res.Header.Get("Content-Encoding") != "" {
		t.Error("a small file is compressed")
	}
}

// TestLoad: a build that would be served wrongly does not start.
func TestLoad(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]fstest.MapFS{
		"no page":           {"assets/a.js": {Data: []byte("1")}},
		"an unknown type":   {"index.html": {Data: []byte(page)}, "assets/a.exe": {Data: []byte("1")}},
		"a file of no type": {"index.html": {Data: []byte(page)}, "LICENSE": {Data: []byte("1")}},
	} {
		if _, err := load(files); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestTokenStaysInTheCookie: no answer with the refresh token in it goes out, whatever
// the RPC answers.
func TestTokenStaysInTheCookie(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]int{
		`{"accessToken":"a","refreshToken":"tgr_secret"}`:                           http.StatusOK,
		`{"accessToken":"a","refreshToken":"tgr_secret","copy":"x tgr_secret"}`:     http.StatusForbidden,
		`{"accessToken":"a","refreshToken":"tgr_secret","new":{"t":"tgr_secret"}}`:  http.StatusForbidden,
		`{"accessToken":"a","refreshToken":""}`:                                     http.StatusForbidden,
		`{"accessToken":"a"}`:                                                       http.StatusForbidden,
		`{"accessToken":"a","refreshToken":["tgr_secret"]}`:                         http.StatusForbidden,
		`{"accessToken":"a","refresh_token":"tgr_secret","refreshToken":"tgr_else"`: http.StatusForbidden,
	} {
		h := serve(t, Options{
			Seal: []byte("key"), Revoke: func(context.Context, http.Header, string) error { return nil },
			RPC: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }),
		})
		res := get(t, h, "POST", "/console/session/login", "Sec-Fetch-Site", "same-origin", "Content-Type", "application/json")
		if body := read(t, res.Body); res.StatusCode != want || strings.Contains(body, "tgr_") {
			t.Errorf("%s: %d %s", answer, res.StatusCode, body)
		}
		if (len(res.Cookies()) == 1) != (want == http.StatusOK) {
			t.Errorf("%s: cookies %v", answer, res.Cookies())
		}
	}
}
