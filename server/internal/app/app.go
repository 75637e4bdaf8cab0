// Package app wires Tollgate: configuration to backends, backends to services,
// services to handlers. It is the only package that imports all the others. The
// program and the end-to-end tests start the same App.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/grpchealth"
	"github.com/redis/go-redis/v9"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/audit/witness"
	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/auth/password"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/limits"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
	"github.com/tollgatehq/tollgate/server/internal/overview"
	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/policyfeed"
	"github.com/tollgatehq/tollgate/server/internal/recordings"
	"github.com/tollgatehq/tollgate/server/internal/resources"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"github.com/tollgatehq/tollgate/server/internal/routes"
	"github.com/tollgatehq/tollgate/server/internal/seal"
	"github.com/tollgatehq/tollgate/server/internal/sinks"
	"github.com/tollgatehq/tollgate/server/internal/telemetry"
)

// Out is where the program writes: standard output and the log.
type Out struct {
	Stdout   io.Writer
	Log      *slog.Logger
	Terminal bool // Stdout is a terminal
}

// App is one instance.
type App struct {
	config Config
	clock  clock.Clock
	out    Out

	db        *database.DB
	redis     redis.UniversalClient // nil: everything is in this process
	log       *changes.Log
	audit     *audit.Service
	tree      *tree.Tree
	keeper    *witness.Keeper
	pages     page.Tokens
	cookies   []byte        // the key that marks the console's cookies
	Auth      *auth.Service // for the subcommands
	roles     *roles.Service
	Limits    *limits.Service // for the subcommands
	policy    *policyfeed.Service
	overview  *overview.Service
	routes    *routes.Service
	sinks     *sinks.Service // nil: there are none, or this is no server
	resources *resources.Service
	recorded  *recordings.Service

	metrics   *metrics.Metrics
	refused   *refused
	telemetry *telemetry.Telemetry
	ready     atomic.Bool
	draining  context.Context
	drain     context.CancelFunc
	work      sync.WaitGroup // background goroutines
	stopWork  context.CancelFunc
}

// Open opens the database, brings its schema up to date, and makes what a new
// one lacks: the built-in roles and limits, and the signing key. Close when
// done, also without Run.
func Open(ctx context.Context, config Config, clk clock.Clock, out Out) (*App, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	master, err := openMaster(ctx, config)
	if err != nil {
		return nil, err
	}
	out.Log = telemetry.Log(out.Log)
	watch, err := telemetry.Open(ctx, config.Version, out.Log)
	if err != nil {
		return nil, err
	}
	db, err := database.Open(config.DatabaseURL)
	if err != nil {
		watch.Close()
		return nil, err
	}
	a := &App{config: config, clock: clk, out: out, db: db, metrics: metrics.New(), telemetry: watch}
	a.refused = newRefused(a.metrics, out.Log)
	a.draining, a.drain = context.WithCancel(context.Background())
	if err := a.open(ctx, master); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *App) open(ctx context.Context, master *seal.Master) error {
	ctx = caller.System(ctx)
	steps, err := a.db.MigrateUp(ctx)
	if err != nil {
		return fmt.Errorf("database %s: %w", redactURL(a.config.DatabaseURL), err)
	}
	if len(steps) > 0 {
		a.out.Log.InfoContext(ctx, "database schema is up to date", "applied", strings.Join(steps, ", "))
	}

	var backend limits.Backend = limits.NewMemory(a.clock)
	limiterDown := func() bool { return false }
	leases := func() (none limits.LeaseStats) { return none } // memory is asked call by call
	var notifier changes.Notifier
	if a.config.RedisURL != "" {
		if a.redis, err = openRedis(a.config.RedisURL); err != nil {
			return err
		}
		if err := checkRedis(ctx, a.redis, a.config.RedisURL, a.out.Log); err != nil {
			return err
		}
		counters := limits.NewRedis(a.redis, redisPrefix, a.clock, a.out.Log)
		held := limits.NewLeases(counters, a.clock)
		backend, limiterDown, leases = held, counters.Down, held.Stats
		notifier = changes.NewRedisNotifier(a.redis, redisPrefix)
	}

	a.pages = page.NewTokens(master.Derive("page tokens v1"))
	a.cookies = master.Derive("console cookies v1")
	a.audit = audit.NewService(a.db, a.clock, a.pages, a.out.Log)
	a.tree = tree.New(a.db, a.clock, master, a.config.auditOrigin())
	a.audit.GrowTree(a.tree)
	a.makeMonths(ctx)
	a.log = changes.New(a.db, changes.Options{
		Clock: a.clock, Log: a.out.Log, Notifier: notifier, Staleness: a.config.Staleness, OnEvents: a.audit.Wake,
	})
	a.roles = roles.New(a.db, a.log, a.clock, a.pages)
	a.roles.Declare(roles.Declared{
		Permissions: contract.Permissions(),
		Actions:     append(contract.Actions(), limits.Anonymous, limits.SecondFactor),
	})
	a.Limits = limits.New(a.db, a.log, a.roles, a.clock, a.pages, backend)
	a.routes = routes.New(a.db, a.log, a.clock, a.pages)
	a.resources = resources.New(a.db, a.log, a.clock, a.pages)
	a.recorded = recordings.New(a.db, a.log, a.roles.CheckCounted, a.clock, a.pages)
	a.overview = a.newOverview(limiterDown)
	a.Auth = auth.New(auth.Options{
		DB: a.db, Log: a.log, Audit: a.audit, Roles: a.roles, Limits: a.Limits, Clock: a.clock,
		Pages: a.pages, Master: master, Issuer: a.config.Issuer, Audience: a.config.Audience,
		AccessTokenTTL: a.config.AccessTokenTTL, SessionIdle: a.config.SessionIdle,
		SessionMax: a.config.SessionMax, RefreshGrace: a.config.RefreshGrace,
		SigningAlgorithm: a.config.SigningAlgorithm, SigningKeyRotation: a.config.SigningKeyRotation,
		SigningKeyAhead: a.signingKeyAhead(),
		Passwords: password.Options{
			Cost: a.config.BcryptCost,
			// Those kept waiting are under way: they must not take the places of others.
			MaxHeld: max(1, min(128, cmp.Or(a.config.MaxInFlight, 1024)/8)),
		},
		SignedIn: a.signedIn,
	})
	a.Limits.ResolveUsers(a.Auth.ResolveUser)
	a.Limits.Announce(a.audit.Note)
	a.Limits.WatchUse(a.overview.LimitCounted)
	a.log.Follow(a.roles)
	a.log.Follow(a.Limits)
	a.log.Follow(a.routes)
	a.log.Follow(a.resources)
	a.log.Follow(a.recorded)
	a.log.Follow(a.Auth)
	a.policy = policyfeed.New(a.log, a.roles, a.Limits, a.recorded)
	a.log.Follow(a.policy)
	a.registerMetrics(limiterDown, leases)

	// What a new database lacks, each in its own transaction and safe to repeat.
	for _, ensure := range []func(context.Context) error{
		a.Auth.SigningKeys.Ensure, a.tree.Ensure, a.roles.EnsureBuiltins, a.Limits.EnsureBuiltins, a.log.Start,
	} {
		if err := ensure(ctx); err != nil {
			return err
		}
	}
	witnesses, err := a.config.witnesses()
	if err != nil {
		return err
	}
	if a.keeper, err = witness.New(ctx, a.tree, a.config.CheckpointFile, witnesses, a.out.Log); err != nil {
		return err
	}
	a.start()
	return nil
}

// start starts the background work that every use of the App needs.
func (a *App) start() {
	ctx, stop := context.WithCancel(context.Background())
	a.stopWork = stop
	a.work.Go(func() { a.audit.Run(ctx) })
	a.work.Go(func() { a.log.Run(ctx) })
	a.work.Go(func() { a.maintain(ctx) })
	a.work.Go(func() { a.overview.Run(ctx) })
}

// Close stops the background work and closes the database.
func (a *App) Close() error {
	a.drain()
	var flushed error
	if a.stopWork != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		flushed = a.Auth.APIKeys.FlushLastUsed(ctx)
		a.stopWork()
		a.work.Wait()
		a.refused.flush(ctx)
	}
	if a.redis != nil {
		flushed = errors.Join(flushed, a.redis.Close())
	}
	a.telemetry.Close()
	return errors.Join(flushed, a.db.Close())
}

// readiness says what is needed to serve and what is wrong with it.
func (a *App) readiness(ctx context.Context) []httpapi.Dependency {
	dependencies := []httpapi.Dependency{{Name: "database", Err: a.db.Ping(ctx)}}
	if !a.ready.Load() {
		dependencies = append(dependencies, httpapi.Dependency{Name: "server", Err: errors.New("stopping")})
	}
	if a.redis != nil {
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		dependencies = append(dependencies, httpapi.Dependency{Name: "redis", Err: a.redis.Ping(ctx).Err(), Optional: true})
	}
	if a.sinks != nil {
		for _, s := range a.sinks.Status() {
			dependency := httpapi.Dependency{Name: "audit_sink_" + s.Name, Optional: true}
			if s.Failing {
				dependency.Err = errors.New("its last delivery failed")
			}
			dependencies = append(dependencies, dependency)
		}
	}
	return dependencies
}

// health is readiness for gRPC's health protocol.
type health struct{ app *App }

func (h health) Check(ctx context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	static := grpchealth.NewStaticChecker(contract.ServiceNames()...)
	if !h.app.ready.Load() || h.app.db.Ping(ctx) != nil {
		for _, service := range append(contract.ServiceNames(), "") {
			static.SetStatus(service, grpchealth.StatusNotServing)
		}
	}
	return static.Check(ctx, req)
}
