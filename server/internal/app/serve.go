package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/gateway"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"golang.org/x/sync/errgroup"
)

// ServeMetrics serves /metrics on a listener of its own until ctx ends.
func (a *App) ServeMetrics(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.Handler())
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// warnOfOthers takes the lock of servers on a SQLite file and warns when another
// server has it. It goes on: a restart may let two overlap. The caller closes the
// file when the server ends.
func (a *App) warnOfOthers() io.Closer {
	file, shared, err := lockShared(strings.TrimPrefix(a.config.DatabaseURL, "sqlite:") + ".lock")
	switch {
	case err != nil:
		a.out.Log.Warn("cannot tell whether another server has this database", "error", err)
	case shared:
		a.out.Log.Warn("another server has this database: each counts limits by itself, so callers get that many times as much; end one, or let them share counters with --redis-url")
	}
	if file == nil {
		return io.NopCloser(nil)
	}
	return file
}

// server is what serves a listener: net/http's, or grpcapi's.
type server interface {
	Serve(listener net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

// Listeners are the ports to serve; nil: not served.
type Listeners struct{ API, GRPC, Gateway *Listener }

// Addresses are where they are; nil: not served.
type Addresses struct{ API, GRPC, Gateway net.Addr }

// Addresses are the listeners' addresses.
func (l Listeners) Addresses() Addresses {
	of := func(l *Listener) net.Addr {
		if l == nil {
			return nil
		}
		return l.Addr()
	}
	return Addresses{API: of(l.API), GRPC: of(l.GRPC), Gateway: of(l.Gateway)}
}

// serving makes the servers of the ports.
func (a *App) serving(on Listeners) (listeners []*Listener, servers []server, err error) {
	p, err := a.openPorts()
	if err != nil {
		return nil, nil, err
	}
	add := func(l *Listener, s server) { listeners, servers = append(listeners, l), append(servers, s) }
	handler, err := a.handler(p)
	if err != nil {
		return nil, nil, err
	}
	add(on.API, httpapi.NewServer(handler, a.out.Log))
	if on.GRPC != nil {
		s, err := a.grpc(p)
		if err != nil {
			return nil, nil, err
		}
		add(on.GRPC, s)
	}
	if on.Gateway != nil {
		g, err := a.gateway(p.proxies)
		if err != nil {
			return nil, nil, err
		}
		add(on.Gateway, gateway.NewServer(g, a.out.Log))
	}
	return listeners, servers, nil
}

// Serve serves the ports until ctx ends, then drains: readiness goes false; after the
// drain delay streams end and running calls finish.
func (a *App) Serve(ctx context.Context, on Listeners) error {
	listeners, servers, err := a.serving(on)
	if err != nil {
		return err
	}
	proxies, err := a.config.proxies()
	if err != nil {
		return err
	}
	keep, err := a.config.retentions()
	if err != nil {
		return err
	}
	if a.config.embedded() && a.config.RedisURL == "" {
		defer a.warnOfOthers().Close()
	}
	if a.sinks, err = a.openSinks(); err != nil {
		return err
	}
	a.ready.Store(true)

	// Only servers rotate and prune: a command may have been given other settings.
	serving, stopServing := context.WithCancel(ctx)
	var chores sync.WaitGroup
	chores.Go(func() { a.rotateKeys(serving) })
	chores.Go(func() { a.keeper.Run(serving) })
	chores.Go(func() { a.keepMonths(serving) })
	if keep.Delete() {
		chores.Go(func() { a.pruneAudit(serving, keep) })
	}
	if a.sinks != nil {
		chores.Go(func() { a.sinks.Run(serving) })
	}
	defer chores.Wait()
	defer stopServing()

	stopped := make(chan error, len(servers))
	for i, server := range servers {
		bounded := *listeners[i] // below TLS: a handshake takes a place
		bounded.Listener = httpapi.LimitConnections(bounded.Listener, cmp.Or(a.config.MaxConnections, defaultConnections), proxies, a.refused.count)
		go func() { stopped <- server.Serve(&bounded) }()
	}
	select {
	case err := <-stopped:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	a.ready.Store(false)
	if a.config.DrainDelay > 0 { // until the load balancer has noticed
		noticed := time.NewTimer(a.config.DrainDelay)
		defer noticed.Stop()
		select {
		case err := <-stopped:
			return fmt.Errorf("serve: %w", err)
		case <-noticed.C:
		}
	}
	a.drain()
	graceful, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var all errgroup.Group
	for _, server := range servers {
		all.Go(func() error {
			if err := server.Shutdown(graceful); err != nil {
				a.out.Log.Warn("some calls did not finish in time", "error", err)
				return server.Close()
			}
			return nil
		})
	}
	return all.Wait()
}

// gateway makes the reverse proxy.
func (a *App) gateway(proxies []netip.Prefix) (g *gateway.Gateway, err error) {
	upstream, err := a.config.upstream()
	if err != nil {
		return nil, err
	}
	g = gateway.New(gateway.Options{
		Enforce: a.enforcer(a.decisions()), Upstream: upstream, Audience: a.config.GatewayAudience,
		Timeout: a.config.GatewayTimeout, ClientTime: a.config.GatewayClientTime, MaxRequests: a.config.GatewayMaxRequests, TrustedProxies: proxies,
		Stopping: func() bool { return !a.ready.Load() }, Draining: a.draining,
		Metrics: a.metrics.Gateway(func() int64 { return g.InFlight() }), Refused: a.refused.count, Clock: a.clock, Log: a.out.Log,
	})
	return g, nil
}
