package sinks

import (
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// What Amazon's documentation signs its examples with.
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// signedWell checks a request's signature as
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html has it.
func signedWell(r *http.Request, body []byte) error {
	credential, signed, given := "", "", ""
	for part := range strings.SplitSeq(strings.TrimPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			signed = value
		case "Signature":
			given = value
		}
	}
	key, scope, _ := strings.Cut(credential, "/")
	parts := strings.Split(scope, "/")
	sum := sha256.Sum256(body)
	switch {
	case key != exampleKey || len(parts) != 4:
		return errors.New("credential " + credential)
	case r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]):
		return errors.New("the body is not what was signed")
	}
	canonical := r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.URL.RawQuery + "\n"
	for name := range strings.SplitSeq(signed, ";") {
		value := strings.TrimSpace(r.Header.Get(name))
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(len(body))
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + signed + "\n" + r.Header.Get("X-Amz-Content-Sha256")
	hash := sha256.Sum256([]byte(canonical))
	text := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + hex.EncodeToString(hash[:])
	mac := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	signing := []byte("AWS4" + exampleSecret)
	for _, part := range parts {
		signing = mac(signing, part)
	}
	if want := hex.EncodeToString(mac(signing, text)); given != want {
		return fmt.Errorf("signature %s, want %s of\n%s", given, want, canonical)
	}
	return nil
}

// TestSignedWell holds the test's own check against Amazon's example of a GET.
func TestSignedWell(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "http://examplebucket.s3.amazonaws.com/test.txt", nil)
	r.Header.Set("Range", "bytes=0-9")
	r.Header.Set("X-Amz-Content-Sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleKey+"/20130524/us-east-1/s3/aws4_request,"+
		"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
	backendtest.Must(t, signedWell(r, nil))
}

// bucket is an S3 that checks every request.
type bucket struct {
	*httptest.Server
	region string

	mu      sync.Mutex
	refuse  string // the code of an error; empty: it takes what is good
	objects map[string][]byte
	puts    int
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{region: "us-east-1", objects: map[string][]byte{}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sum := sha256.Sum256(body)
		b.mu.Lock()
		defer b.mu.Unlock()
		code := b.refuse
		if err := signedWell(r, body); err != nil {
			t.Error(err)
			code = "SignatureDoesNotMatch"
		}
		if !strings.Contains(r.Header.Get("Authorization"), "/"+b.region+"/s3/aws4_request,") {
			t.Errorf("it is signed for another region: %s", r.Header.Get("Authorization"))
		}
		if r.Method != http.MethodPut || r.Header.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(sum[:]) {
			code = "InvalidRequest"
		}
		if code != "" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>hunter2</Message></Error>`, code)
			return
		}
		b.objects[r.URL.Path] = body
		b.puts++
	}))
	t.Cleanup(b.Close)
	return b
}

// fail has the bucket answer with an error of this code from now on.
func (b *bucket) fail(code string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = code
}

// credentialsFile has a JSON file of credentials.
func credentialsFile(t *testing.T) string {
	t.Helper()
	return secretFile(t, `{"Version": 1, "AccessKeyId": "`+exampleKey+`", "SecretAccessKey": "`+exampleSecret+`", "SessionToken": "a token", "Expiration": "2026-03-01T13:00:00Z"}`)
}

func openBucket(t *testing.T, endpoint, options string) (Target, Sink) {
	t.Helper()
	clk := clock.NewFake(start).Clock()
	targets, err := Parse([]string{"archive=s3://logs/tollgate/audit#endpoint=" + endpoint + "&credentials=file:" + credentialsFile(t) + options}, env(clk))
	backendtest.Must(t, err)
	sink, err := targets[0].Open()
	backendtest.Must(t, err)
	t.Cleanup(func() { sink.Close() })
	return targets[0], sink
}

func unpack(t *testing.T, packed []byte) string {
	t.Helper()
	reader, err := gzip.NewReader(strings.NewReader(string(packed)))
	backendtest.Must(t, err)
	text, err := io.ReadAll(reader)
	backendtest.Must(t, err)
	return string(text)
}

func TestS3(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.region = "eu-central-1"
	_, sink := openBucket(t, b.URL, "&region=eu-central-1")
	for range 2 { // the same batch is the same object
		backendtest.Must(t, sink.Deliver(t.Context(), batch(7, 107)))
	}
	backendtest.Must(t, sink.Deliver(t.Context(), batch(107, 110)))
	want := []string{
		"/logs/tollgate/audit/00000000000000000007-00000000000000000106-id-7.ndjson.gz", "/logs/tollgate/audit/00000000000000000107-00000000000000000109-id-107.ndjson.gz",
		"/logs/tollgate/audit/checkpoints/00000000000000000042",
	}
	backendtest.Equal(t, fmt.Sprint(slices.Sorted(maps.Keys(b.objects))), fmt.Sprint(want), "objects")
	backendtest.Equal(t, b.puts, 4, "puts")
	lines := strings.Split(strings.TrimSpace(unpack(t, b.objects[want[0]])), "\n")
	if len(lines) != 100 || !strings.HasPrefix(lines[0], `{"leaf":7,`) || !strings.HasPrefix(lines[99], `{"leaf":106,`) {
		t.Errorf("%d lines, the first %s", len(lines), lines[0])
	}
	backendtest.Equal(t, string(b.objects[want[2]]), "tollgate.test/audit\n42\n", "checkpoint")
}

// TestS3Failures checks that an error has S3's code and nothing else of its answer.
func TestS3Failures(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	target, sink := openBucket(t, b.URL, "")
	backendtest.Equal(t, target.Size.Linger, time.Minute, "every")
	b.fail("AccessDenied")
	if err := sink.Deliver(t.Context(), batch(0, 1)); err == nil || err.Error() != "the receiver answers 403: AccessDenied" {
		t.Errorf("refused: %v", err)
	}
	b.fail("no code of S3's, hunter2")
	if err := sink.Deliver(t.Context(), batch(0, 1)); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("another answer: %v", err)
	}
	b.Close()
	if err := sink.Deliver(t.Context(), batch(0, 1)); err == nil || strings.Contains(err.Error(), "X-Amz") || strings.Contains(err.Error(), "logs/") {
		t.Errorf("no answer: %v", err)
	}
}

// TestS3CredentialsChange checks that a file of credentials is read for each batch.
func TestS3CredentialsChange(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	path := secretFile(t, `{"AccessKeyId": "x", "SecretAccessKey": "y"}`)
	_, sink := openBucket(t, b.URL, "")
	s := sink.(*s3Sink)
	o := &options{given: map[string][]string{"credentials": {"file:" + path}}}
	s.credentials = o.credentials("credentials")
	backendtest.Must(t, os.WriteFile(path, []byte(`{"AccessKeyId": "`+exampleKey+`", "SecretAccessKey": "`+exampleSecret+`"}`), 0o600))
	backendtest.Must(t, sink.Deliver(t.Context(), batch(0, 1)))
	backendtest.Must(t, os.Remove(path))
	if err := sink.Deliver(t.Context(), batch(1, 2)); err == nil {
		t.Error("it went on with credentials that are gone")
	}
}

func TestS3Addresses(t *testing.T) {
	t.Parallel()
	credentials := "&credentials=file:" + credentialsFile(t)
	for address, base := range map[string]string{
		"s3://logs/audit#region=eu-central-1":              "https://logs.s3.eu-central-1.amazonaws.com/audit/",
		"s3://logs#region=eu-central-1":                    "https://logs.s3.eu-central-1.amazonaws.com/",
		"s3://logs.example.com/a/b/#region=eu-central-1":   "https://s3.eu-central-1.amazonaws.com/logs.example.com/a/b/",
		"s3://logs/audit#endpoint=https://minio.example:9": "https://minio.example:9/logs/audit/",
	} {
		targets, err := Parse([]string{"a=" + address + credentials}, env(clock.Real()))
		backendtest.Must(t, err)
		sink, err := targets[0].Open()
		backendtest.Must(t, err)
		backendtest.Equal(t, sink.(*s3Sink).base, base, "%s", address)
	}
	for address, says := range map[string]string{
		"s3://": "name of a bucket", "s3://LOGS/": "name of a bucket", "s3://logs/a b": "prefix", "s3://logs/../x": "prefix", "s3://logs/a//b": "prefix", "s3://logs/a?x=1": "prefix",
		"s3://logs#region=eu/central": "region", "s3://logs#endpoint=http://minio.example": "endpoint", "s3://logs#endpoint=https://u:p@minio": "endpoint",
		"s3://logs#every=1ms": "every", "s3://logs#credentials=hunter2": "file:PATH", "s3://logs#credentials=file:/not/there": "/not/there",
		"s3://logs#credentials=file:" + secretFile(t, "hunter2"): "AccessKeyId",
	} {
		with := ""
		if !strings.Contains(address, "credentials") {
			with = credentials
			if !strings.Contains(address, "#") {
				with = "#x=1" + credentials
			}
		}
		if _, err := Parse([]string{"a=" + address + with}, env(clock.Real())); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
