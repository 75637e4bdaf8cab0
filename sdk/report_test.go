package tollgate_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/sdktest"
)

// handler is one behind Verifier.Authenticate.
func (s *stage) handler() http.Handler {
	return s.verifier.Authenticate(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, tollgate.FromContext(r.Context()).UserID)
	}))
}

// answers checks the status of an answer to a credential from an address.
func (s *stage) answers(t *testing.T, credential, remote string, status int) http.Header {
	t.Helper()
	r := request("Bearer " + credential)
	r.RemoteAddr = remote
	res := answer(s.handler(), r)
	if res.StatusCode != status {
		t.Errorf("status %d, want %d", res.StatusCode, status)
	}
	return res.Header
}

const remote = "192.0.2.7:4711"

// What is refused in this process is taken to Tollgate, with who showed it.
func TestAuthenticateReports(t *testing.T) {
	s := newStage(t, nil)
	s.SetUser(sdktest.User{Name: "bob", PasswordChange: true})
	revoked := s.Token("alice", sdktest.InSession("s-1"))
	s.hears(t, s.Revoke("s-1"))
	s.answers(t, s.Token("alice"), remote, 200)
	s.answers(t, s.Token("bob"), remote, 403) // the credential is good
	if n := len(s.Decisions()); n != 0 {
		t.Fatalf("Tollgate was asked %d times about good credentials", n)
	}
	if res := answer(s.handler(), request()); res.StatusCode != 401 || len(s.Decisions()) != 0 {
		t.Errorf("no credential: %d, Tollgate was asked %d times", res.StatusCode, len(s.Decisions()))
	}
	for i, credential := range []string{
		s.Token("alice") + "x", revoked, s.Token("alice", sdktest.ExpiresAt(s.now())), s.Token("alice", sdktest.Claim("aud", "others")), "a b", "tg_bad",
	} {
		s.answers(t, credential, remote, 401)
		all := s.Decisions()
		if len(all) != i+1 {
			t.Fatalf("credential %d: Tollgate was asked %d times", i, len(all))
		}
		q := all[i].Request
		if !q.GetAuthenticated() || q.GetClient().GetIp() != "192.0.2.7" || q.GetResource() != "/orders/42" || all[i].Response.GetAllowed() {
			t.Errorf("credential %d: asked %v, answer %v", i, q, all[i].Response)
		}
	}
	s.answers(t, s.APIKey("alice"), remote, 200)
	if n := s.Calls("AuthService/Verify"); n != 0 {
		t.Errorf("Verify, which counts nothing, was asked %d times", n)
	}
}

// Refused here is refused, whatever Tollgate thinks of it.
func TestAuthenticateNeverAllowsWhatItRefused(t *testing.T) {
	f := &fake{authorize: decided(allowed()).authorize}
	client := newClient(t, serve(t, f.handler()))
	verifier, err := tollgate.NewVerifier(client, sdktest.Issuer, sdktest.Audience)
	if err != nil {
		t.Fatal(err)
	}
	defer verifier.Close()
	s := &stage{verifier: verifier}
	s.answers(t, "no token", remote, 401)
	f.asked(t)
}

// A flood of bad credentials at a service is none at Tollgate, from one address
// or from many.
func TestAuthenticateBoundsReports(t *testing.T) {
	s := newStage(t, nil)
	bad := s.Token("alice") + "x"
	asked := func() int { return len(s.Decisions()) }
	for range 1000 {
		s.answers(t, bad, remote, 401)
	}
	if n := asked(); n != 10 {
		t.Errorf("one address: Tollgate was asked %d times, want 10", n)
	}
	s.add(time.Second)
	for range 10 {
		s.answers(t, bad, remote, 401)
	}
	if n := asked(); n != 11 {
		t.Errorf("a second later: Tollgate was asked %d times, want 11", n)
	}
	for i := range 100 {
		s.answers(t, bad, fmt.Sprintf("[2001:db8::%x]:1", i+1), 401)
	}
	if n := asked(); n != 21 {
		t.Errorf("one /64: Tollgate was asked %d times, want 21", n)
	}
	s.add(time.Hour)
	for i := range 1000 {
		s.answers(t, bad, fmt.Sprintf("10.0.%d.%d:1", i/250, i%250), 401)
	}
	if n := asked(); n != 121 {
		t.Errorf("many addresses: Tollgate was asked %d times, want 121", n)
	}
	s.answers(t, s.Token("alice"), remote, 200)
}

// Whoever is over a limit of Tollgate's is told so, and not asked about until
// it is over.
func TestAuthenticateLimited(t *testing.T) {
	s := newStage(t, nil)
	s.SetLimit(sdktest.Limit{Name: "per-ip", Permission: "authenticated", Calls: 3, RetryAfter: 30 * time.Second})
	bad := s.Token("alice") + "x"
	for range 3 {
		s.answers(t, bad, remote, 401)
	}
	wantHeader(t, s.answers(t, bad, remote, 429), "Retry-After", "30")
	s.add(10 * time.Second)
	wantHeader(t, s.answers(t, bad, remote, 429), "Retry-After", "20")
	if n := len(s.Decisions()); n != 4 {
		t.Errorf("Tollgate was asked %d times, want 4", n)
	}
	s.answers(t, s.Token("alice"), remote, 200)
	s.answers(t, bad, "192.0.2.8:1", 401)
	s.add(20 * time.Second)
	s.answers(t, bad, remote, 429)
	if n := len(s.Decisions()); n != 6 {
		t.Errorf("Tollgate was asked %d times, want 6", n)
	}
}

// When Tollgate does not answer, bad credentials are refused all the same, and
// the log is not flooded.
func TestAuthenticateCannotReport(t *testing.T) {
	log := logged{text: "cannot be counted"}
	s := newStage(t, []tollgate.Option{tollgate.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))})
	s.SetDown(true)
	for range 5 {
		s.answers(t, s.Token("alice")+"x", remote, 401)
	}
	if n := log.lines.Load(); n != 1 {
		t.Errorf("%d lines in the log, want 1", n)
	}
}

// logged counts the lines of a log that have a text.
type logged struct {
	text  string
	lines atomic.Int64
}

func (l *logged) Write(line []byte) (int, error) {
	if strings.Contains(string(line), l.text) {
		l.lines.Add(1)
	}
	return len(line), nil
}

// To hang up at once does not keep a try from being counted.
func TestAuthenticateCallerHangsUp(t *testing.T) {
	s := newStage(t, nil)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	answer(s.handler(), request("Bearer "+s.Token("alice")+"x").WithContext(gone))
	if n := len(s.Decisions()); n != 1 {
		t.Errorf("Tollgate was asked %d times", n)
	}
}

// While the feed is lost, what Tollgate is asked is what it counts.
func TestAuthenticateWithoutTheFeed(t *testing.T) {
	s := newStage(t, nil)
	token := s.Token("alice", sdktest.ExpiresAt(s.now().Add(10*time.Hour)), sdktest.InSession("s-1"))
	s.add(2 * time.Hour)
	s.answers(t, token, remote, 200)
	s.hears(t, s.Revoke("s-1"))
	s.add(2 * time.Hour)
	s.answers(t, token, remote, 401)
	all := s.Decisions()
	if len(all) != 2 || all[1].Response.GetReason() != tollgatev1.Reason_REASON_CREDENTIAL_REVOKED {
		t.Errorf("Tollgate decided %v", all)
	}
}
