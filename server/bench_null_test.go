package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"connectrpc.com/connect"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// nullVariable makes the test binary the null server instead of running tests.
const nullVariable = "TOLLGATE_BENCH_NULL"

const (
	nullService   = "bench.v1.Null"
	nullProcedure = "/" + nullService + "/Call"
	nullGet       = "/null"
)

// serveNull serves an RPC that does nothing until standard input ends: with
// Connect on HTTP/1.1 and HTTP/2 without TLS, and with grpc-go on a port of its
// own. It prints both addresses.
func serveNull() error {
	mux := http.NewServeMux()
	mux.Handle(nullProcedure, connect.NewUnaryHandler(nullProcedure, func(context.Context, *connect.Request[emptypb.Empty]) (*connect.Response[emptypb.Empty], error) {
		return connect.NewResponse(&emptypb.Empty{}), nil
	}))
	mux.HandleFunc("GET "+nullGet, func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	nothing := grpc.NewServer()
	nothing.RegisterService(&grpc.ServiceDesc{
		ServiceName: nullService,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return &emptypb.Empty{}, decode(&emptypb.Empty{})
		}}},
	}, nil)
	ended := make(chan error, 3)
	var addresses []any
	for _, serve := range []func(net.Listener) error{server.Serve, nothing.Serve} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses = append(addresses, l.Addr())
		go func() { ended <- serve(l) }()
	}
	fmt.Println(addresses...)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	return <-ended
}

// nullServer is a running null server.
type nullServer struct {
	connect, grpc string // addresses
	pid           int
}

// newNullServer starts a null server, which ends with the test.
func newNullServer(t *testing.T) nullServer {
	t.Helper()
	file, err := os.Executable()
	backendtest.Must(t, err)
	cmd := exec.Command(file)
	cmd.Env, cmd.Stderr = append(os.Environ(), nullVariable+"=1"), os.Stderr
	stdin, err := cmd.StdinPipe()
	backendtest.Must(t, err)
	stdout, err := cmd.StdoutPipe()
	backendtest.Must(t, err)
	backendtest.Must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	n := nullServer{pid: cmd.Process.Pid}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	backendtest.Must(t, err)
	_, err = fmt.Sscan(line, &n.connect, &n.grpc)
	backendtest.Must(t, err)
	return n
}
