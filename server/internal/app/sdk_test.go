package app

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// service returns the SDK's client of a new service account.
func (i *instance) service(t *testing.T, name, audience string) *tollgate.Client {
	t.Helper()
	made := i.call(t, "POST", "/v1/users", i.admin, map[string]any{"username": name, "kind": "USER_KIND_SERVICE", "audience": audience}).Want(t, 200)
	id := made.Str("user", "id")
	i.call(t, "PUT", "/v1/roles/service/members/"+id, i.admin, map[string]any{}).Want(t, 200)
	key := i.call(t, "POST", "/v1/api-keys", i.admin, map[string]any{"name": name, "userId": id}).Want(t, 200).Str("secret")
	client, err := tollgate.New(i.URL, tollgate.WithAPIKey(key), tollgate.WithTimeout(30*time.Second), tollgate.WithLogger(slog.New(slog.DiscardHandler)))
	backendtest.Must(t, err)
	return client
}

// verifier returns a warm one of a service.
func (i *instance) verifier(t *testing.T, client *tollgate.Client, audience string) *tollgate.Verifier {
	t.Helper()
	v, err := tollgate.NewVerifier(client, tollgate.VerifierConfig{Issuer: "http://tollgate.test", Audience: audience, FeedBound: time.Minute})
	backendtest.Must(t, err)
	t.Cleanup(v.Close)
	backendtest.Must(t, v.Wait(t.Context(), 0))
	return v
}

func wantReason(t *testing.T, v *tollgate.Verifier, token string, reason tollgate.Reason) *tollgate.Principal {
	t.Helper()
	found, err := v.Verify(t.Context(), token)
	backendtest.Must(t, err)
	if found.Reason != reason || found.Active != (reason == tollgate.ReasonOK) {
		t.Errorf("%+v, want %s", found, reason)
	}
	return found.Principal
}

// TestLocalVerificationIsCounted: a bad token that a service refuses by itself
// counts here against its caller's address and is on record.
func TestLocalVerificationIsCounted(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		client := i.service(t, "orders", "")
		_, token := i.newUser(t, "alice")
		i.limitPerIP(t, "authenticated", 3)
		handler := i.verifier(t, client, "tollgate").Authenticate(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		status := func(token string) int {
			r := httptest.NewRequest("GET", "/orders", nil)
			r.RemoteAddr = someIP + ":4711"
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w.Code
		}
		var got []int
		for range 5 {
			got = append(got, status(token+"x"))
		}
		if want := []int{401, 401, 401, 429, 429}; !slices.Equal(got, want) {
			t.Errorf("answers %v, want %v", got, want)
		}
		if code := status(token); code != 200 {
			t.Errorf("a good token: %d", code)
		}
		if n := i.denied(t); n == 0 {
			t.Error("nothing is on record")
		}
	})
}

// TestRemovedSigningKeyElsewhere: a service that verifies by itself refuses the
// tokens of a removed key when the removal is told, not when it fetches the keys
// again.
func TestRemovedSigningKeyElsewhere(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		v := i.verifier(t, i.service(t, "orders", ""), "tollgate")
		_, token := i.newUser(t, "alice")
		wantReason(t, v, token, tollgate.ReasonOK)
		keys, _ := i.call(t, "GET", "/v1/signing-keys", i.admin, nil).Want(t, 200).Body["signingKeys"].([]any)
		leaked, _ := keys[0].(map[string]any)
		i.call(t, "POST", "/v1/signing-keys/rotate", i.admin, map[string]any{}).Want(t, 200)
		id, _ := leaked["id"].(string)
		removed, err := strconv.ParseInt(i.call(t, "DELETE", "/v1/signing-keys/"+id, i.admin, nil).Want(t, 200).Str("revision"), 10, 64)
		backendtest.Must(t, err)
		backendtest.Must(t, v.Wait(t.Context(), removed))
		found, err := v.Verify(t.Context(), token)
		if err == nil && found.Active {
			t.Error("a token of the removed key is good")
		}
	})
}

// TestSDKSessionAudience: the tokens of an SDK session with an audience are good at
// its service, not at others, not here, and end with the session.
func TestSDKSessionAudience(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, i *instance) {
		orders, stock := i.verifier(t, i.service(t, "orders", "orders"), "orders"), i.verifier(t, i.service(t, "stock", "stock"), "stock")
		i.newUser(t, "alice")
		session, err := tollgate.NewSession(t.Context(), i.URL, tollgate.SessionConfig{
			Username: "alice", Password: "a password of alice", Audience: "orders",
		}, tollgate.WithTimeout(30*time.Second))
		backendtest.Must(t, err)
		token, err := session.Token(t.Context())
		backendtest.Must(t, err)
		p := wantReason(t, orders, token, tollgate.ReasonOK)
		if p == nil || p.Audience != "orders" || !slices.Equal(p.Amr, []string{"pwd"}) || p.AuthTime.IsZero() {
			t.Errorf("principal %+v", p)
		}
		wantReason(t, stock, token, tollgate.ReasonWrongAudience)
		if res := i.call(t, "GET", "/v1/auth/whoami", token, nil); res.Status != 401 || !strings.Contains(string(res.Raw), "WRONG_AUDIENCE") {
			t.Errorf("here: %d %s", res.Status, res.Raw)
		}
		backendtest.Must(t, session.Close(t.Context()))
		backendtest.Must(t, orders.Wait(t.Context(), i.log.Revision()))
		wantReason(t, orders, token, tollgate.ReasonCredentialRevoked)
	})
}
