package sinks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// webhookSink posts batches as lines, signed as
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
// has it. Any 2xx confirms.
type webhookSink struct {
	url           string
	secrets       [][]byte // each signs; the receiver needs to know one
	authorization string   // of the request; empty: none
	line          func([]byte, *audit.Entry) []byte
	client        *http.Client
	clock         clock.Clock
	contentType   string
}

// maxRetryAfter bounds how long a receiver may ask to be left alone.
const maxRetryAfter = 10 * time.Minute

// Deliver implements Sink. A batch that is repeated has the same webhook-id.
func (w *webhookSink) Deliver(ctx context.Context, b Batch) error {
	var body []byte
	for i := range b.Entries {
		body = w.line(body, &b.Entries[i])
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	id := fmt.Sprintf("%s-%d-%d", b.Entries[0].ID, b.First(), b.Last()) // also another log's is another
	at := strconv.FormatInt(w.clock.Now().Unix(), 10)
	req.Header.Set("Content-Type", w.contentType)
	req.Header.Set("User-Agent", "tollgate")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", at)
	if len(w.secrets) > 0 {
		req.Header.Set("webhook-signature", signature(w.secrets, id, at, body))
	}
	if w.authorization != "" {
		req.Header.Set("Authorization", w.authorization)
	}
	res, err := w.client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // so that the connection can be used again
	return answered(res, w.clock.Now())
}

// answered is nil for an answer that confirms.
func answered(res *http.Response, now time.Time) error {
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	err := fmt.Errorf("the receiver answers %d", res.StatusCode)
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		err = fmt.Errorf("the receiver answers %d, but redirects are not followed: configure where it is now", res.StatusCode)
	case res.StatusCode == http.StatusRequestEntityTooLarge:
		err = fmt.Errorf("%w: %w", errTooLarge, err)
	}
	if wait := retryAfter(res.Header.Get("Retry-After"), now); wait > 0 {
		return after{err, wait}
	}
	return err
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3), 0 for none.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		return min(max(0, time.Duration(seconds)*time.Second), maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}

// signature is one "v1," and base64 of the HMAC for each secret, a space between.
func signature(secrets [][]byte, id, at string, body []byte) string {
	all := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + at + "."))
		mac.Write(body)
		all[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(all, " ")
}

// Close implements Sink.
func (w *webhookSink) Close() error {
	w.client.CloseIdleConnections()
	return nil
}

// withoutURL is an error of a request without its URL, which may hold a secret.
func withoutURL(err error) error {
	if asked, ok := errors.AsType[*url.Error](err); ok {
		return asked.Err
	}
	return err
}

// newClient makes a client that trusts the system's authorities, or only those of a file,
// and follows no redirect.
func newClient(authorities *tlsRoots) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = authorities.config()
	transport.ResponseHeaderTimeout = deliverTime
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.MaxIdleConnsPerHost = 1
	return &http.Client{
		Transport:     transport,
		Timeout:       deliverTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
