package app

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// guardOf is the guard option of an RPC.
func guardOf(method protoreflect.MethodDescriptor) *tollgatev1.Guard {
	guard, _ := proto.GetExtension(method.Options(), tollgatev1.E_Guard).(*tollgatev1.Guard)
	return guard
}

// callRPC calls an RPC with an empty message, over the gRPC port if the instance has
// a connection to it and over Connect otherwise, and returns the error's code, "" for
// none.
func (i *instance) callRPC(t *testing.T, method protoreflect.MethodDescriptor, token string) string {
	t.Helper()
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	if i.grpcConn != nil {
		var header []string
		if token != "" {
			header = []string{"authorization", "Bearer " + token}
		}
		return overGRPC(t, i.grpcConn, path, dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output()), header...).Code
	}
	if !method.IsStreamingServer() {
		a := i.call(t, "POST", path, token, "{}")
		return a.Str("code")
	}
	// One enveloped message out, one back: a stream's own, or its end with an
	// error (https://connectrpc.com/docs/protocol#streaming-rpcs).
	req, err := http.NewRequestWithContext(t.Context(), "POST", i.URL+path, strings.NewReader("\x00\x00\x00\x00\x02{}"))
	backendtest.Must(t, err)
	req.Header.Set("Content-Type", "application/connect+json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	backendtest.Must(t, err)
	defer res.Body.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, head); err != nil {
		t.Fatalf("stream: status %d, %v", res.StatusCode, err)
	}
	const last = 2
	if head[0]&last == 0 {
		return ""
	}
	var end struct {
		Error struct{ Code string }
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:]))
	_, err = io.ReadFull(res.Body, body)
	backendtest.Must(t, err)
	backendtest.Must(t, json.Unmarshal(body, &end))
	return end.Error.Code
}

// TestEveryRPC walks every RPC of every service as nobody, as a user without
// the permission, as a user with it, and as an API key with and without it, at both
// ports.
func TestEveryRPC(t *testing.T) {
	t.Parallel()
	t.Run("the API's port", func(t *testing.T) {
		t.Parallel()
		everyRPC(t, startEmbedded(t))
	})
	t.Run("the gRPC port", func(t *testing.T) {
		t.Parallel()
		i := startEmbedded(t)
		i.grpcConn = i.serveGRPC(t)
		everyRPC(t, i)
	})
}

func everyRPC(t *testing.T, i *instance) {
	i.call(t, "PATCH", "/v1/limits/sign-in-per-ip", i.admin, map[string]any{"rate": 1000, "burst": 1000}).Want(t, 200)
	_, without := i.newUser(t, "without", "something:else")
	for procedure, method := range contract.Methods() {
		t.Run(string(method.FullName()), func(t *testing.T) {
			guard := guardOf(method)
			if guard.GetPublic() {
				for _, token := range []string{"", without, "rubbish"} {
					if code := i.callRPC(t, method, token); code == "unauthenticated" || code == "permission_denied" {
						t.Errorf("public, but refused: %s", code)
					}
				}
				return
			}
			for _, token := range []string{"", "rubbish", "tg_rubbish", "a.b.c"} {
				if code := i.callRPC(t, method, token); code != "unauthenticated" {
					t.Errorf("credential %q: %q, want unauthenticated", token, code)
				}
			}
			if guard.GetAuthenticated() {
				if code := i.callRPC(t, method, i.login(t, "without")); code == "unauthenticated" || code == "permission_denied" {
					t.Errorf("any user may, but refused: %s", code)
				}
				return
			}
			if code := i.callRPC(t, method, without); code != "permission_denied" {
				t.Errorf("without the permission: %q, want permission_denied", code)
			}
			if field := guard.GetSelfOnly(); field != "" {
				key := i.call(t, "POST", "/v1/api-keys", i.admin, map[string]any{"name": "k"}).Want(t, 200).Str("secret")
				for credential, want := range map[string]int{without: 403, i.admin: 400, key: 403} {
					a := i.call(t, "POST", procedure, credential, map[string]any{field: i.user})
					if a.Status != want || want == 403 && a.Reason() != "SELF_ONLY" {
						t.Errorf("about the administrator: %d %s, want %d", a.Status, a.Raw, want)
					}
				}
				return
			}
			_, with := i.newUser(t, strings.ToLower("with-"+string(method.Name())), guard.GetPermission())
			if code := i.callRPC(t, method, with); code == "unauthenticated" || code == "permission_denied" {
				t.Errorf("with %s: %s", guard.GetPermission(), code)
			}
			if code := i.callRPC(t, method, i.key(t, "something:else")); code != "permission_denied" {
				t.Errorf("an administrator's key whose scopes leave it out: %q, want permission_denied", code)
			}
			if code := i.callRPC(t, method, i.key(t, guard.GetPermission())); code == "unauthenticated" || code == "permission_denied" {
				t.Errorf("a key with the scope %s: %s", guard.GetPermission(), code)
			}
		})
	}
}

// key makes an API key of the administrator's that ends with the test: nobody may have
// as many as there are RPCs.
func (i *instance) key(t *testing.T, scope string) (secret string) {
	t.Helper()
	made := i.As(i.admin).Post(t, "/v1/api-keys", map[string]any{"name": "k", "scopes": []string{scope}})
	t.Cleanup(func() { i.As(i.admin).Insist(t, "DELETE", "/v1/api-keys/"+made.Str("apiKey", "id"), nil) })
	return made.Str("secret")
}
