package cli

import (
	"context"
	"maps"
	"slices"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
	"google.golang.org/protobuf/proto"
)

type routes struct {
	List   routesList   `cmd:"" help:"List routes: what requests to protected services need."`
	Get    routesGet    `cmd:"" help:"Show a route."`
	Create routesCreate `cmd:"" help:"Create a route."`
	Edit   routesEdit   `cmd:"" help:"Change a route in an editor."`
	Delete routesDelete `cmd:"" help:"Remove a route. What only it matched is refused from then on."`
	Match  routesMatch  `cmd:"" help:"Say which route a request would be, and what it needs."`
}

type routesList struct{ limited }

func (r routesList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := paging.All(r.Limit, func(size int32, token string) (*tollgatev1.ListRoutesResponse, error) {
		return server.routes.ListRoutes(ctx, &tollgatev1.ListRoutesRequest{PageSize: size, PageToken: token})
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"NAME", "HOST", "METHODS", "PATH", "NEEDS", "RESOURCE", "UPSTREAM"}
		for _, r := range res.GetRoutes() {
			t.row(r.GetName(), r.GetHost(), methods(r), r.GetPath(), needs(r), r.GetResource(), r.GetUpstream())
		}
	})
}

func methods(r *tollgatev1.Route) string {
	if len(r.GetMethods()) == 0 {
		return "all"
	}
	return list(r.GetMethods())
}

func needs(r *tollgatev1.Route) string {
	switch {
	case r.GetPublic():
		return "nothing (public)"
	case r.GetAuthenticated():
		return "any credential"
	}
	return r.GetPermission()
}

type oneRoute struct {
	Name string `arg:"" help:"The route's name."`
}

func (o oneRoute) get(ctx context.Context, e *env) (*api, *tollgatev1.GetRouteResponse, error) {
	server, err := e.connect()
	if err != nil {
		return nil, nil, err
	}
	res, err := server.routes.GetRoute(ctx, &tollgatev1.GetRouteRequest{Name: o.Name})
	return server, res, err
}

type routesGet struct{ oneRoute }

func (r routesGet) Run(ctx context.Context, e *env) error {
	_, res, err := r.get(ctx, e)
	if err != nil {
		return err
	}
	return e.showRoute(res, res.GetRoute())
}

func (e *env) showRoute(answer proto.Message, r *tollgatev1.Route, more ...string) error {
	return e.show(answer, func(t *table) {
		t.row("name", r.GetName())
		t.row("description", r.GetDescription())
		t.row("host", r.GetHost())
		t.row("methods", methods(r))
		t.row("path", r.GetPath())
		t.row("needs", needs(r))
		t.row("resource", r.GetResource())
		t.row("upstream", r.GetUpstream())
		for _, key := range slices.Sorted(maps.Keys(r.GetContext())) {
			t.row("context", key+" = "+r.GetContext()[key])
		}
		for _, line := range more {
			what, value, _ := strings.Cut(line, "\t")
			t.row(what, value)
		}
	})
}

type routesCreate struct {
	oneRoute

	Path          string            `required:"" help:"The path template: /orders/{id}, /files/{rest...}." placeholder:"PATH"`
	Host          string            `help:"The host; *.example.com for all names below. Default: any." placeholder:"NAME"`
	Method        []string          `help:"A method. Repeat the flag for more. Default: all." placeholder:"NAME"`
	Permission    string            `help:"The permission that a request needs." placeholder:"PERMISSION"`
	Authenticated bool              `help:"Any good credential will do."`
	Public        bool              `help:"No credential is needed, and none is looked at."`
	Resource      string            `help:"What a request is about: orders/{id}." placeholder:"TEXT"`
	Cost          int64             `help:"How much a request counts against limits." placeholder:"N"`
	Upstream      string            `help:"Where the gateway sends it." placeholder:"URL"`
	Context       map[string]string `help:"A fact for custom limits. Repeat the flag for more." mapsep:"none" placeholder:"KEY=VALUE"`
	Description   string            `help:"What it is for." placeholder:"TEXT"`
}

func (r routesCreate) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.routes.CreateRoute(ctx, &tollgatev1.CreateRouteRequest{
		Name: r.Name, Path: r.Path, Host: r.Host, Methods: r.Method, Permission: r.Permission, Authenticated: r.Authenticated, Public: r.Public,
		Resource: r.Resource, Cost: r.Cost, Upstream: r.Upstream, Context: r.Context, Description: r.Description,
	})
	if err != nil {
		return err
	}
	e.say("created route %s", r.Name)
	return e.asked(res)
}

type routesEdit struct{ oneRoute }

func (r routesEdit) Run(ctx context.Context, e *env) error {
	server, got, err := r.get(ctx, e)
	if err != nil {
		return err
	}
	update := &tollgatev1.UpdateRouteRequest{Name: r.Name}
	if err := e.editFields(ctx, "The route "+r.Name, got.GetRoute(), &tollgatev1.CreateRouteRequest{}, update, "name"); err != nil {
		return err
	}
	res, err := server.routes.UpdateRoute(ctx, update)
	if err != nil {
		return err
	}
	e.say("changed route %s", r.Name)
	return e.asked(res)
}

type routesDelete struct {
	oneRoute
	confirmed
}

func (r routesDelete) Run(ctx context.Context, e *env) error {
	server, got, err := r.get(ctx, e)
	if err != nil {
		return err
	}
	route := got.GetRoute()
	if err := r.confirm(ctx, e, "remove the route %s: %s %s%s, so that requests that only it matches are refused", r.Name, methods(route), route.GetHost(), route.GetPath()); err != nil {
		return err
	}
	res, err := server.routes.DeleteRoute(ctx, &tollgatev1.DeleteRouteRequest{Name: r.Name})
	if err != nil {
		return err
	}
	e.say("removed route %s", r.Name)
	return e.asked(res)
}

type routesMatch struct {
	Method string `arg:"" help:"The method: GET."`
	Path   string `arg:"" help:"The path: /orders/7."`
	Host   string `help:"The host." placeholder:"NAME"`
}

func (r routesMatch) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.routes.MatchRoute(ctx, &tollgatev1.MatchRouteRequest{Method: r.Method, Host: r.Host, Path: r.Path})
	if err != nil {
		return err
	}
	more := []string{"counted as\t" + res.GetPermission(), "about\t" + res.GetResource()}
	for _, key := range slices.Sorted(maps.Keys(res.GetParameters())) {
		more = append(more, "parameter\t"+key+" = "+res.GetParameters()[key])
	}
	return e.showRoute(res, res.GetRoute(), more...)
}
