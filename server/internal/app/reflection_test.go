package app

import (
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// TestReflectionNeedsACredential: anybody may list the API of the embedded
// default that only this machine can reach, and only who is signed in that of
// any other server.
func TestReflectionNeedsACredential(t *testing.T) {
	t.Parallel()
	client := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	client.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	list := func(i *instance, token string) ([]string, error) {
		header := http.Header{}
		if token != "" {
			header.Set("Authorization", "Bearer "+token)
		}
		stream := grpcreflect.NewClient(client, i.URL, connect.WithGRPC()).NewStream(t.Context(), grpcreflect.WithRequestHeaders(header))
		defer stream.Close()
		services, err := stream.ListServices()
		var names []string
		for _, s := range services {
			names = append(names, string(s))
		}
		return names, err
	}
	config := testConfig(backendtest.SQLiteURL(t))
	config.Listen = "0.0.0.0:8000"
	open := start(t, config, clock.Real())
	for _, token := range []string{"", "rubbish"} {
		if names, err := list(open, token); connect.CodeOf(err) != connect.CodeUnauthenticated || len(names) > 0 {
			t.Errorf("credential %q at an address that others reach: %v, %v", token, names, err)
		}
	}
	if names, err := list(open, open.admin); err != nil || len(names) < 4 {
		t.Errorf("signed in: %v, %v", names, err)
	}
	if names, err := list(startEmbedded(t), ""); err != nil || len(names) < 4 {
		t.Errorf("on loopback: %v, %v", names, err)
	}
}
