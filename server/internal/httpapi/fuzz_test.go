package httpapi

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/protobuf/proto"
)

// What is taken as JSON is written as JSON that is taken as the same message;
// what is refused is refused with a short text in UTF-8.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"permission":"orders:read","cost":"3","context":{"tenant":"a"}}`, `{"permission":"\ud800"}`, "\xef\xbb{}",
		`{"period":"1m"}`, "{\n\"period\":\xff", `{"client":{"ip":"192.0.2.1"},"accessToken":"x"}`, `{"min_revision":1,"minRevision":"1"}`, `{"cost":1e2}`, `{"cost":0e}`,
		`{"` + strings.Repeat("x", 300) + `":1}`, strings.Repeat(`{"client":`, 40), "{\xe9:1}", `{} {}`, `{"apiKey":"x","accessToken":"y"}`,
	} {
		f.Add([]byte(seed))
	}
	codec := newStrictJSON()
	f.Fuzz(func(t *testing.T, data []byte) {
		codec.Unmarshal(data, &tollgatev1.CreateLimitRequest{}) // it must not panic
		var message, again tollgatev1.AuthorizeRequest
		if err := codec.Unmarshal(data, &message); err != nil {
			if text := err.Error(); !utf8.ValidString(text) || len(text) > maxErrorText+64 {
				t.Fatalf("%q: %d bytes: %q", data, len(text), text)
			}
			return
		}
		written, err := codec.Marshal(&message)
		if err != nil {
			t.Fatalf("%q is taken and cannot be written: %v", data, err)
		}
		if err := codec.Unmarshal(written, &again); err != nil || !proto.Equal(&message, &again) {
			t.Fatalf("%q becomes %q: %v", data, written, err)
		}
	})
}

// A query that is taken has each field once and none that the path has, however
// a name is spelled.
func FuzzRESTQuery(f *testing.F) {
	q, err := newRESTQueries(http.NotFoundHandler())
	backendtest.Must(f, err)
	for _, seed := range []string{
		"", "id=x", "%69d=x", "page_size=1&pageSize=2", "pageSize=1;id=2", "a=%zz", "id", "id.x=1", "=1", "&&", "page_size=1&page_size=1", "%=1", "+id=1",
	} {
		f.Add("/v1/users/018f0000-0000-7000-8000-000000000000", seed)
		f.Add("/v1/users", seed)
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}}
		if q.check(r) != nil {
			return
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatalf("%q is taken and cannot be read: %v", query, err)
		}
		if strings.HasPrefix(path, "/v1/users/") && strings.Count(path, "/") == 3 && (values.Has("id") || strings.HasPrefix(values.Encode(), "id.")) {
			t.Fatalf("%s?%s names what is in the path", path, query)
		}
		if path == "/v1/users" && (len(values["page_size"])+len(values["pageSize"]) > 1) {
			t.Fatalf("%s?%s has a field twice", path, query)
		}
	})
}

// A client that is known was named in exactly one way, and Basic is read back
// to the id and secret that it was made of.
func FuzzReadClient(f *testing.F) {
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	f.Add("", "id", "secret")
	f.Add(basic("id:secret"), "", "")
	f.Add(basic("a%3Ab:s%25"), "a:b", "")
	f.Add(basic("id"), "", "")
	f.Add(basic("%zz:x"), "", "")
	f.Add("basic \x00", "", "")
	f.Add("Bearer x", "", "")
	f.Add("Bearer  x", "", "secret")
	f.Add("Bearer x,Bearer y", "", "")
	f.Fuzz(func(t *testing.T, header, id, secret string) {
		h := http.Header{}
		if header != "" {
			h.Set("Authorization", header)
		}
		c, err := readClient(h, form{"client_id": id, "client_secret": secret})
		if err != nil {
			if c.known() {
				t.Fatalf("%q %q: refused and known", header, id)
			}
			return
		}
		if c.credential.AccessToken != "" && c.credential.APIKey != "" || header != "" && secret != "" || c.known() && !c.bearer && c.id == "" {
			t.Fatalf("%q %q %q: %+v", header, id, secret, c)
		}
		if header == "" && c.known() && (c.id != id || c.credential.APIKey != secret) {
			t.Fatalf("%q %q: %+v", id, secret, c)
		}
		text := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
		gotID, gotSecret, ok := readBasic(base64.StdEncoding.EncodeToString([]byte(text)))
		if valid := utf8.ValidString(id) && utf8.ValidString(secret); ok != valid || ok && (gotID != id || gotSecret != secret) {
			t.Fatalf("%q is read as %q %q %v", text, gotID, gotSecret, ok)
		}
	})
}

// Whatever another layer answers with, the caller gets an error in UTF-8, in
// the one shape, and no longer than its details.
func FuzzRewrite(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `not found`, `{"code":"invalid_argument","message":"x"}`, `{"code":"unknown","message":"read message: illegal base64"}`,
		`{"code":13,"message":"unknown field in field path \"x\""}`, `{"code":5,"message":"x","details":[]}`, `{"code":"nonsense"}`, `{"code":"invalid_argument","message":"` + strings.Repeat("x", 20<<10) + `"}`, "{\"code\":\"internal\",\"message\":\"\xe9\"}",
	} {
		f.Add(500, []byte(seed))
		f.Add(404, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 400 || status > 599 || strings.Contains(string(body), "details") {
			return
		}
		out := httptest.NewRecorder()
		rewrite(out, httptest.NewRequest("GET", "/v1/users", nil), status, body, "request-1")
		answer := out.Body.Bytes()
		if !utf8.Valid(answer) || !strings.HasPrefix(string(answer), `{"code":"`) || !strings.Contains(string(answer), "ErrorInfo") || len(answer) > 16<<10 {
			t.Fatalf("%d %q becomes %q", status, body, answer)
		}
	})
}
