package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// watch opens the stream of revocations.
func watch(ctx context.Context, t *testing.T, conn *grpc.ClientConn, token string) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(bearer(ctx, token), &grpc.StreamDesc{ServerStreams: true}, "/tollgate.v1.AuthService/WatchRevocations")
	backendtest.Must(t, err)
	backendtest.Must(t, stream.SendMsg(&tollgatev1.WatchRevocationsRequest{}))
	backendtest.Must(t, stream.CloseSend())
	backendtest.Must(t, stream.RecvMsg(&tollgatev1.WatchRevocationsResponse{}))
	return stream
}

// end reads a stream to its end.
func end(stream grpc.ClientStream, message any) error {
	for {
		if err := stream.RecvMsg(message); err != nil {
			return err
		}
	}
}

// TestGRPCStreams: revocations and events come through, and a stream ends with its
// caller's right to it.
func TestGRPCStreams(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	conn := i.serveGRPC(t)
	_, token := i.newUser(t, "watcher", "tollgate:verify", "tollgate:audit:read")
	revocations := watch(t.Context(), t, conn, token)
	events, err := conn.NewStream(bearer(t.Context(), token), &grpc.StreamDesc{ServerStreams: true}, "/tollgate.v1.AuditService/WatchEvents")
	backendtest.Must(t, err)
	backendtest.Must(t, events.SendMsg(&tollgatev1.WatchEventsRequest{Action: "user.create"}))
	backendtest.Must(t, events.CloseSend())
	backendtest.Must(t, events.RecvMsg(&tollgatev1.WatchEventsResponse{}))

	id, other := i.newUser(t, "other")
	for event := (&tollgatev1.WatchEventsResponse{}); event.GetEvent() == nil; {
		backendtest.Must(t, events.RecvMsg(event))
		if e := event.GetEvent(); e != nil && !strings.Contains(e.GetResource(), id) {
			t.Errorf("event %v", e)
		}
	}
	i.As(other).Post(t, "/v1/auth/logout", apitest.Object{})
	for r := (&tollgatev1.WatchRevocationsResponse{}); len(r.GetSessionIds()) == 0; {
		backendtest.Must(t, revocations.RecvMsg(r))
	}

	i.call(t, "DELETE", "/v1/roles/role-of-watcher/members/"+i.userID(t, "watcher"), i.admin, nil).Want(t, http.StatusOK)
	for name, stream := range map[string]grpc.ClientStream{"revocations": revocations, "events": events} {
		message := any(&tollgatev1.WatchRevocationsResponse{})
		if name == "events" {
			message = &tollgatev1.WatchEventsResponse{}
		}
		if err := end(stream, message); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: the stream ends with %v", name, err)
		}
	}
}

// userID is the id of a user.
func (i *instance) userID(t *testing.T, name string) string {
	t.Helper()
	id, _, found, err := i.Auth.ResolveUser(t.Context(), i.db, name)
	backendtest.Must(t, err)
	if !found {
		t.Fatalf("there is no user %s", name)
	}
	return id
}

// TestGRPCDrains: streams end, calls finish, and new ones are refused.
func TestGRPCDrains(t *testing.T) {
	t.Parallel()
	a, err := Open(t.Context(), testConfig(backendtest.SQLiteURL(t)), clock.Real(), Out{Stdout: io.Discard, Log: slog.New(slog.DiscardHandler)})
	backendtest.Must(t, err)
	defer a.Close()
	_, err = a.BootstrapAdmin(context.Background())
	backendtest.Must(t, err)
	var on Listeners
	for _, l := range []**Listener{&on.API, &on.GRPC} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		backendtest.Must(t, err)
		*l = &Listener{Listener: listener}
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, on) }()
	api := apitest.New(t, "http://"+on.API.Addr().String())
	token := api.Login(t, FirstAdmin, adminPassword).Str("accessToken")
	conn := dialGRPC(t, on.GRPC.Addr().String())
	stream := watch(t.Context(), t, conn, token)
	health := grpc_health_v1.NewHealthClient(conn)
	for service, want := range map[string]codes.Code{"": codes.OK, "tollgate.v1.AuthService": codes.OK, "nobody": codes.NotFound} {
		res, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if status.Code(err) != want || err == nil && res.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v", service, res, err)
		}
	}
	stop()
	if err := end(stream, &tollgatev1.WatchRevocationsResponse{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("the stream ends with %v", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("afterwards: %v", err)
	}
}

// TestGRPCReflectionNeedsACredential, as at the API's port.
func TestGRPCReflectionNeedsACredential(t *testing.T) {
	t.Parallel()
	list := func(conn *grpc.ClientConn, token string) (int, error) {
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(bearer(t.Context(), token))
		if err == nil {
			err = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		res, err := stream.Recv()
		return len(res.GetListServicesResponse().GetService()), err
	}
	config := testConfig(backendtest.SQLiteURL(t))
	config.GRPCListen = "0.0.0.0:9000" // others reach it, though not the API's
	reached := start(t, config, clock.Real())
	conn := reached.serveGRPC(t)
	for _, token := range []string{"", "rubbish"} {
		if n, err := list(conn, token); status.Code(err) != codes.Unauthenticated || n > 0 {
			t.Errorf("credential %q at an address that others reach: %d, %v", token, n, err)
		}
	}
	if n, err := list(conn, reached.admin); err != nil || n != 9 {
		t.Errorf("signed in: %d, %v", n, err)
	}
	if n, err := list(startEmbedded(t).serveGRPC(t), ""); err != nil || n != 9 {
		t.Errorf("on loopback: %d, %v", n, err)
	}
}

// TestGRPCCallsAreCounted: they are in the metrics and in the audit log with their
// origin, as calls at the API's port are.
func TestGRPCCallsAreCounted(t *testing.T) {
	t.Parallel()
	config := testConfig(backendtest.SQLiteURL(t))
	config.TrustedProxies = []string{"127.0.0.1"}
	i := start(t, config, clock.Real())
	conn := i.serveGRPC(t)
	_, without := i.newUser(t, "without")
	err := conn.Invoke(bearer(t.Context(), without, "x-forwarded-for", "203.0.113.8, 192.0.2.7", "user-agent", "mine", "x-request-id", "the-id"),
		"/tollgate.v1.RolesService/ListRoles", &tollgatev1.ListRolesRequest{}, &tollgatev1.ListRolesResponse{})
	if status.Code(err) != codes.PermissionDenied {
		t.Fatal(err)
	}
	event := i.As(i.admin).Call(t, "GET", "/v1/audit/events?actor=without&outcome=OUTCOME_DENIED", nil).List("events")[0]
	backendtest.Equal(t, [2]any{event["ip"], event["requestId"]}, [2]any{"192.0.2.7", "the-id"}, "the refusal on record")
	recorder := httptest.NewRecorder()
	i.metrics.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`tollgate_requests_total{code="permission_denied",procedure="/tollgate.v1.RolesService/ListRoles"} 1`,
		`tollgate_request_duration_seconds_count{procedure="/tollgate.v1.RolesService/ListRoles"} 1`,
	} {
		if !strings.Contains(recorder.Body.String(), want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// TestGRPCEnvoy: Envoy may ask at this port, with a key only.
func TestGRPCEnvoy(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	conn := i.serveGRPC(t)
	asked := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Host: "shop.test", Path: "/"},
	}}}
	client := authv3.NewAuthorizationClient(conn)
	if _, err := client.Check(t.Context(), asked); status.Code(err) != codes.PermissionDenied {
		t.Errorf("without a key: %v", err)
	}
	if _, err := client.Check(bearer(t.Context(), i.admin), asked); status.Code(err) != codes.PermissionDenied {
		t.Errorf("with somebody's token: %v", err)
	}
	res, err := client.Check(bearer(t.Context(), "", "x-tollgate-key", i.key(t, "tollgate:authorize")), asked)
	if err != nil || res.GetDeniedResponse().GetStatus().GetCode() != http.StatusForbidden { // there is no route
		t.Errorf("with a key: %v, %v", res, err)
	}
}

// TestGRPCDeadline: a call ends with its deadline, and one whose caller leaves.
func TestGRPCDeadline(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	conn := i.serveGRPC(t)
	ctx, cancel := context.WithTimeout(bearer(t.Context(), i.admin), time.Nanosecond)
	defer cancel()
	if err := conn.Invoke(ctx, "/tollgate.v1.RolesService/ListRoles", &tollgatev1.ListRolesRequest{}, &tollgatev1.ListRolesResponse{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("no time at all: %v", err)
	}
	ctx, leave := context.WithCancel(t.Context())
	stream := watch(ctx, t, conn, i.admin)
	leave()
	if err := end(stream, &tollgatev1.WatchRevocationsResponse{}); status.Code(err) != codes.Canceled {
		t.Errorf("a canceled stream: %v", err)
	}
}

// TestGRPCTLS: the port has the API's certificate, and asks for clients' when the API
// does.
func TestGRPCTLS(t *testing.T) {
	t.Parallel()
	clients := newAuthority(t)
	known, _, _ := clients.issue(x509.ExtKeyUsageClientAuth)
	stranger, _, _ := newAuthority(t).issue(x509.ExtKeyUsageClientAuth)
	check := func(s *secured, c credentials.TransportCredentials) error {
		conn := dialGRPC(t, s.grpc, grpc.WithTransportCredentials(c))
		_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	of := func(s *secured, own ...tls.Certificate) credentials.TransportCredentials {
		return credentials.NewTLS(s.client(own...).Transport.(*http.Transport).TLSClientConfig)
	}
	open, closed := serveTLS(t, nil), serveTLS(t, clients)
	for name, err := range map[string]error{"TLS": check(open, of(open)), "a known client": check(closed, of(closed, known))} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"clear text": check(open, insecure.NewCredentials()), "another authority": check(open, of(closed)),
		"no certificate": check(closed, of(closed)), "a stranger's": check(closed, of(closed, stranger)),
	} {
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}
