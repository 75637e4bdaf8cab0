package tollgate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// handler returns one behind Verifier.Authenticate.
func (f *fixture) handler() http.Handler {
	return f.verifier.Authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, tollgate.FromContext(r.Context()).UserID)
	}))
}

// wantStatus checks the status of an answer to a credential from an address.
func (f *fixture) wantStatus(t *testing.T, credential, remote string, status int) http.Header {
	t.Helper()
	r := request("Bearer " + credential)
	r.RemoteAddr = remote
	res := answer(f.handler(), r)
	if res.StatusCode != status {
		t.Errorf("status %d, want %d", res.StatusCode, status)
	}
	return res.Header
}

// wantDecisions returns the decisions of Tollgate and checks how many there are.
func (f *fixture) wantDecisions(t *testing.T, want int) []sdktest.Decision {
	t.Helper()
	all := f.Decisions()
	if len(all) != want {
		t.Fatalf("Tollgate decided %d times, want %d", len(all), want)
	}
	return all
}

const remote = "192.0.2.7:4711"

// TestAuthenticate: a credential that is refused in this process is reported with
// its caller.
func TestAuthenticate(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	f.SetUser(sdktest.User{Name: "bob", PasswordChange: true})
	revoked := f.Token("alice", sdktest.InSession("s-1"))
	f.waitFor(t, f.Revoke("s-1"))
	f.wantStatus(t, f.Token("alice"), remote, 200)
	f.wantStatus(t, f.Token("bob"), remote, 403) // the credential is good
	for _, authorization := range [][]string{nil, {"Basic eDp5"}} {
		if res := answer(f.handler(), request(authorization...)); res.StatusCode != 401 {
			t.Errorf("%q: %d", authorization, res.StatusCode)
		}
	}
	f.wantDecisions(t, 0)
	for i, credential := range []string{
		f.Token("alice") + "x", revoked, f.Token("alice", sdktest.ExpiresAt(f.now())), f.Token("alice", sdktest.Claim("aud", "others")), "a b", "tg_bad",
	} {
		f.wantStatus(t, credential, remote, 401)
		all := f.wantDecisions(t, i+1)
		q := all[i].Request
		if !q.GetAuthenticated() || q.GetClient().GetIp() != "192.0.2.7" || q.GetResource() != "/orders/42" || all[i].Response.GetAllowed() {
			t.Errorf("credential %d: asked %v, answer %v", i, q, all[i].Response)
		}
	}
	f.wantStatus(t, f.APIKey("alice"), remote, 200)
	f.wantVerifyCalls(t, 0) // it counts nothing
}

// TestAuthenticateRefusal: no answer to a report turns a refusal into a yes.
func TestAuthenticateRefusal(t *testing.T) {
	t.Parallel()
	f := deciding(t, allowed())
	f.startVerifier(t, tollgate.VerifierConfig{})
	f.wantStatus(t, "no token", remote, 401)
	f.asked(t)
}

// TestAuthenticateReportRate: reports are few, from one address or from many.
func TestAuthenticateReportRate(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	bad := f.Token("alice") + "x"
	for range 1000 {
		f.wantStatus(t, bad, remote, 401)
	}
	f.wantDecisions(t, 10) // one address
	f.add(time.Second)
	for range 10 {
		f.wantStatus(t, bad, remote, 401)
	}
	f.wantDecisions(t, 11) // a second later
	for i := range 100 {
		f.wantStatus(t, bad, fmt.Sprintf("[2001:db8::%x]:1", i+1), 401)
	}
	f.wantDecisions(t, 21) // one /64
	f.add(time.Hour)
	for i := range 1000 {
		f.wantStatus(t, bad, fmt.Sprintf("10.0.%d.%d:1", i/250, i%250), 401)
	}
	f.wantDecisions(t, 121) // many addresses
	f.wantStatus(t, f.Token("alice"), remote, 200)
}

// TestAuthenticateLimited: a caller over a limit gets 429, and is not reported
// until the time given is over.
func TestAuthenticateLimited(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	f.SetLimit(sdktest.Limit{Name: "per-ip", Permission: "authenticated", Calls: 3, RetryAfter: 30 * time.Second})
	bad := f.Token("alice") + "x"
	for range 3 {
		f.wantStatus(t, bad, remote, 401)
	}
	wantHeader(t, f.wantStatus(t, bad, remote, 429), "Retry-After", "30")
	f.add(10 * time.Second)
	wantHeader(t, f.wantStatus(t, bad, remote, 429), "Retry-After", "20")
	f.wantDecisions(t, 4)
	f.wantStatus(t, f.Token("alice"), remote, 200)
	f.wantStatus(t, bad, "192.0.2.8:1", 401)
	f.add(20 * time.Second)
	f.wantStatus(t, bad, remote, 429)
	f.wantDecisions(t, 6)
}

// TestAuthenticateWithoutTollgate: bad credentials are refused, and the log gets
// one line.
func TestAuthenticateWithoutTollgate(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := newFixture(t)
	f.startVerifier(t, tollgate.VerifierConfig{}, tollgate.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	f.waitFor(t, 0)
	bad := f.Token("alice") + "x"
	f.intercept(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") })
	for range 5 {
		f.wantStatus(t, bad, remote, 401)
	}
	f.verifier.Close() // it logs nothing more
	if n := strings.Count(log.String(), "does not count"); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
}

// TestAuthenticateCallerHangsUp: the credential is counted all the same.
func TestAuthenticateCallerHangsUp(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	answer(f.handler(), request("Bearer "+f.Token("alice")+"x").WithContext(gone))
	f.wantDecisions(t, 1)
}

// TestAuthenticateWithoutFeed: Tollgate decides, and counts.
func TestAuthenticateWithoutFeed(t *testing.T) {
	t.Parallel()
	f := newVerifierFixture(t)
	token := f.Token("alice", sdktest.ExpiresAt(f.now().Add(10*time.Hour)), sdktest.InSession("s-1"))
	f.add(2 * time.Hour)
	f.wantStatus(t, token, remote, 200)
	f.waitFor(t, f.Revoke("s-1"))
	f.add(2 * time.Hour)
	f.wantStatus(t, token, remote, 401)
	if all := f.wantDecisions(t, 2); all[1].Response.GetReason() != tollgatev1.Reason_REASON_CREDENTIAL_REVOKED {
		t.Errorf("Tollgate decided %v", all)
	}

	f.startVerifier(t, tollgate.VerifierConfig{FailClosed: true})
	f.waitFor(t, 0)
	token = f.Token("alice", sdktest.ExpiresAt(f.now().Add(10*time.Hour)))
	f.add(2 * time.Hour)
	f.wantStatus(t, token, remote, 503)
}
