package main_test

import (
	"regexp"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

var grpcGreeting = regexp.MustCompile(`Its gRPC port is (\S+)\n`)

// TestGRPCPort makes the calls of the quickstart at the gRPC port of the program, as
// another implementation's client, packed and not, and lists its services.
func TestGRPCPort(t *testing.T) {
	t.Parallel()
	p := run(t, tollgateBinary, t.TempDir(), []string{"TOLLGATE_ADMIN_PASSWORD=" + adminPassword, "TOLLGATE_GRPC_LISTEN=127.0.0.1:0"}, "",
		"--listen", "127.0.0.1:0", "--metrics-listen=")
	s := &tollgate{process: p, Client: apitest.New(t, "http://"+p.says(t, grpcGreeting)[1])}
	p.says(t, greeting)
	for i, protocol := range protocols[:2] {
		t.Run(protocol.name, func(t *testing.T) { core(t, s, protocol, string(rune('a'+i))) })
	}
	stream := grpcreflect.NewClient(h2c(t), s.URL, connect.WithGRPC()).NewStream(t.Context())
	defer stream.Close()
	services, err := stream.ListServices()
	backendtest.Must(t, err)
	if len(services) < 6 {
		t.Errorf("reflection lists %v", services)
	}
	if _, err := stream.FileContainingSymbol("tollgate.v1.RolesService"); err != nil {
		t.Errorf("reflection describes: %v", err)
	}
	_, err = tollgatev1connect.NewAuthServiceClient(h2c(t), s.URL).Login(t.Context(), &tollgatev1.LoginRequest{Username: "admin", Password: adminPassword})
	if err == nil {
		t.Error("the gRPC port speaks Connect")
	}
	p.stop(t)
}
