package main_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	sdk "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
)

// postForm sends a form to an OAuth 2.0 endpoint as a client; the id may be
// empty.
func postForm(t *testing.T, c apitest.Client, path, id, secret string, form url.Values) apitest.Answer {
	t.Helper()
	header := []string{"Content-Type", "application/x-www-form-urlencoded"}
	if id != "" {
		header = append(header, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	}
	return c.As("").Call(t, "POST", path, form.Encode(), header...)
}

// TestRevokeClientToken checks that a token that its client revokes at one
// instance is refused at once there, and within the bound by another instance
// and by a service that verifies tokens by itself.
func TestRevokeClientToken(t *testing.T) {
	t.Parallel()
	const issuer = "http://tollgate.test"
	c := newCluster(t, 2, "TOLLGATE_ISSUER="+issuer)
	robot := c.on(0).NewService(t, "robot")
	id := c.on(0).As(robot).Get(t, "/v1/auth/whoami").Str("principal", "apiKeyId")
	issue := func() string {
		return postForm(t, c.on(0), "/v1/oauth2/token", id, robot, url.Values{"grant_type": {"client_credentials"}}).Want(t, http.StatusOK).Str("access_token")
	}
	revoked, other := issue(), issue()

	client, err := sdk.New(c.on(1).URL, sdk.WithAPIKey(c.on(0).NewService(t, "shop")))
	if err != nil {
		t.Fatal(err)
	}
	// Fails closed: it never asks Tollgate about a token.
	verifier, err := sdk.NewVerifier(client, sdk.VerifierConfig{Issuer: issuer, Audience: "tollgate", FailClosed: true, FeedBound: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(verifier.Close)
	if err := verifier.Wait(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	locally := func(token string) sdk.Reason {
		t.Helper()
		v, err := verifier.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return v.Reason
	}
	status := func(i int, token string) int { return c.on(i).As(token).Call(t, "GET", "/v1/auth/whoami", nil).Status }
	for i := range c.servers { // remembered as good everywhere
		if a, b := status(i, revoked), status(i, other); a != http.StatusOK || b != http.StatusOK || locally(revoked) != sdk.ReasonOK {
			t.Fatalf("before: %d, %d at instance %d, %s locally", a, b, i, locally(revoked))
		}
	}

	form := url.Values{"token": {revoked}, "token_type_hint": {"access_token"}}
	if a := postForm(t, c.on(0), "/v1/oauth2/revoke", "", "", form); a.Status != http.StatusBadRequest || a.Str("error") != "unsupported_token_type" {
		t.Errorf("without a client: %d %s", a.Status, a.Raw)
	}
	if a := postForm(t, c.on(0), "/v1/oauth2/revoke", id, robot, form); a.Status != http.StatusOK || len(a.Raw) > 0 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	acknowledged := time.Now()
	if got := status(0, revoked); got != http.StatusUnauthorized {
		t.Errorf("where it was revoked: %d", got)
	}
	apitest.Eventually(t, "the other instance refuses it", func() bool { return status(1, revoked) == http.StatusUnauthorized })
	apitest.Eventually(t, "the verifier refuses it", func() bool { return locally(revoked) == sdk.ReasonCredentialRevoked })
	bound(t, "a revoked client token is refused by another instance and a verifier", []time.Duration{time.Since(acknowledged)}, time.Second)

	// Instances that start later refuse it too.
	c.add(t)
	for i := range c.servers {
		a := c.on(i).As(revoked).Call(t, "GET", "/v1/auth/whoami", nil)
		if got := status(i, other); a.Status != http.StatusUnauthorized || a.Reason() != "CREDENTIAL_REVOKED" || got != http.StatusOK {
			t.Errorf("instance %d: %d %s; the client's other token: %d", i, a.Status, a.Raw, got)
		}
		a = c.on(i).As(robot).Call(t, "POST", "/v1/authorize", object{"accessToken": revoked, "permission": "orders:read"})
		if a.At("allowed") == true || !strings.HasSuffix(a.Str("reason"), "CREDENTIAL_REVOKED") {
			t.Errorf("Authorize at instance %d: %d %s", i, a.Status, a.Raw)
		}
		a = postForm(t, c.on(i), "/v1/oauth2/introspect", id, robot, url.Values{"token": {revoked}})
		if a.Status != http.StatusOK || a.At("active") != false {
			t.Errorf("introspection at instance %d: %d %s", i, a.Status, a.Raw)
		}
	}
	if got := locally(other); got != sdk.ReasonOK {
		t.Errorf("the client's other token is locally %s", got)
	}
	// Again, anywhere, is no error; nor is what is no token.
	for i, token := range []string{revoked, revoked, "x"} {
		postForm(t, c.on(i), "/v1/oauth2/revoke", id, robot, url.Values{"token": {token}}).Want(t, http.StatusOK)
	}
	if n := len(c.on(0).Events(t, "action=auth.token_revoke")); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}
