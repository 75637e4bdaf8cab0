package app

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// serveGRPC serves the instance's gRPC port and returns a connection to it.
func (i *instance) serveGRPC(t testing.TB) *grpc.ClientConn {
	t.Helper()
	return dialGRPC(t, i.listenGRPC(t))
}

// listenGRPC serves the instance's gRPC port and returns its address.
func (i *instance) listenGRPC(t testing.TB) string {
	t.Helper()
	s, err := i.App.grpc(i.ports)
	backendtest.Must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("serve gRPC: %v", err)
		}
	})
	return listener.Addr().String()
}

func dialGRPC(t testing.TB, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)...)
	backendtest.Must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// h2c is an HTTP/2 client without TLS.
func h2c(t testing.TB) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// bearer is a context whose calls carry a credential and maybe more headers.
func bearer(ctx context.Context, token string, more ...string) context.Context {
	if token != "" {
		more = append(more, "authorization", "Bearer "+token)
	}
	return metadata.AppendToOutgoingContext(ctx, more...)
}
