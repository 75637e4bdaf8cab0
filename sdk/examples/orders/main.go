// Command orders is a small service that Tollgate protects: a Connect service
// with the SDK's interceptor, and an HTTP endpoint with its middleware. README.md
// shows how to try it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	tollgate "github.com/tollgatehq/tollgate/sdk"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and then until the calls under way end.
func run(ctx context.Context, args []string, env func(string) string, out io.Writer) error {
	flags := flag.NewFlagSet("orders", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:9000", "address to serve at")
	address := flags.String("tollgate", "http://127.0.0.1:8000", "Tollgate's base URL; TOLLGATE_API_KEY is the key for it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	key := env("TOLLGATE_API_KEY")
	if key == "" {
		return errors.New("set TOLLGATE_API_KEY to an API key of a user with the role service; README.md shows how to get one")
	}
	client, err := tollgate.New(*address, tollgate.WithAPIKey(key))
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "orders: serving at http://%s, asking Tollgate at %s\n", listener.Addr(), *address)

	server := &http.Server{
		Handler:           newHandler(client),
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // for gRPC clients

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "orders: stopping")
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(ending)
}
