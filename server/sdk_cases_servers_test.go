package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// client makes the client of a case, and counts the requests that arrive at its script.
func (c sdkCase) client(t *testing.T, server string, saved sdkSaved) (*sdk.Client, *atomic.Int64, error) {
	t.Helper()
	given, requests := c.Client, &atomic.Int64{}
	switch {
	case given.URL != nil:
		server = *given.URL
	case given.Unreachable:
		gone := httptest.NewServer(nil)
		gone.Close()
		server = gone.URL
	case given.Script != nil:
		server = scripted(t, server, given.Script, saved, requests)
	}
	key := "${service}"
	if given.APIKey != nil {
		key = *given.APIKey
	}
	key, _ = saved.fill(key).(string)
	opts := []sdk.Option{sdk.WithAPIKey(key)}
	if given.TimeoutMs != nil {
		opts = append(opts, sdk.WithTimeout(time.Duration(*given.TimeoutMs)*time.Millisecond))
	}
	if given.Retries != nil {
		opts = append(opts, sdk.WithRetries(*given.Retries))
	}
	if given.OnUnavailable != "" {
		opts = append(opts, sdk.WithFailureMode(sdkFailureMode(given.OnUnavailable), nil))
	}
	client, err := sdk.New(server, opts...)
	if err == nil {
		t.Cleanup(client.Close)
	}
	return client, requests, err
}

func sdkFailureMode(name string) sdk.FailureMode {
	return map[string]sdk.FailureMode{"allow": sdk.FailOpen, "deny": sdk.FailClosed}[name]
}

type scriptedAnswer struct {
	Status int
	Header map[string]string
	Body   json.RawMessage // a text is sent as it is, anything else as JSON
}

// scripted serves a script: each request takes the next entry, and the last one lasts.
func scripted(t *testing.T, server string, script []json.RawMessage, saved sdkSaved, requests *atomic.Int64) string {
	t.Helper()
	behind, err := url.Parse(server)
	backendtest.Must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(behind)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := script[min(int(requests.Add(1)), len(script))-1]
		switch string(entry) {
		case `"forward"`:
			proxy.ServeHTTP(w, r)
			return
		case `"lose"`:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case `"silent"`:
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		}
		var a scriptedAnswer
		if err := json.Unmarshal(entry, &a); err != nil {
			t.Error(err)
		}
		body := []byte(a.Body)
		var text string
		if json.Unmarshal(body, &text) == nil {
			filled, _ := saved.fill(text).(string)
			body = []byte(filled)
		} else {
			w.Header().Set("Content-Type", "application/json")
		}
		for name, value := range a.Header {
			filled, _ := saved.fill(value).(string)
			w.Header().Set(name, filled)
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(body)
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}
