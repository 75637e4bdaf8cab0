package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"

	"connectrpc.com/connect"
	ordersv1 "github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1"
	"github.com/tollgatehq/tollgate/sdk/examples/orders/gen/orders/v1/ordersv1connect"

	tollgate "github.com/tollgatehq/tollgate/sdk"
)

const (
	maxOrders  = 10_000
	maxMessage = 64 << 10 // bytes
)

// newHandler returns the whole service. Tollgate protects all of it: the RPCs by
// the interceptor, the endpoint by the middleware.
func newHandler(client *tollgate.Client) http.Handler {
	orders := &orders{byID: map[string]*ordersv1.Order{}}
	mux := http.NewServeMux()
	mux.Handle(ordersv1connect.NewOrdersServiceHandler(orders,
		connect.WithInterceptors(client.Interceptor()),
		connect.WithReadMaxBytes(maxMessage),
	))
	needsRead := client.Require("orders:read", func(r *http.Request, q *tollgate.AuthorizeRequest) {
		q.Resource = "orders/" + r.PathValue("id")
	})
	mux.Handle("GET /orders/{id}", needsRead(http.HandlerFunc(orders.serveOrder)))
	return mux
}

// orders keeps orders in memory. It checks no permissions: only calls that are
// allowed get here.
type orders struct {
	ordersv1connect.UnimplementedOrdersServiceHandler

	mu   sync.Mutex
	byID map[string]*ordersv1.Order
}

// CreateOrder places an order of the caller.
func (o *orders) CreateOrder(ctx context.Context, req *ordersv1.CreateOrderRequest) (*ordersv1.CreateOrderResponse, error) {
	if req.GetItem() == "" || len(req.GetItem()) > 100 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("item: must have 1 to 100 bytes"))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.byID) >= maxOrders {
		return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("there are too many orders; start this example anew"))
	}
	order := &ordersv1.Order{
		Id: strconv.Itoa(len(o.byID) + 1), Item: req.GetItem(), UserId: tollgate.FromContext(ctx).UserID,
	}
	o.byID[order.Id] = order
	return &ordersv1.CreateOrderResponse{Order: order}, nil
}

// GetOrder returns an order.
func (o *orders) GetOrder(_ context.Context, req *ordersv1.GetOrderRequest) (*ordersv1.GetOrderResponse, error) {
	order := o.find(req.GetId())
	if order == nil {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such order"))
	}
	return &ordersv1.GetOrderResponse{Order: order}, nil
}

// GetMenu returns what can be ordered.
func (o *orders) GetMenu(context.Context, *ordersv1.GetMenuRequest) (*ordersv1.GetMenuResponse, error) {
	return &ordersv1.GetMenuResponse{Items: []string{"coffee", "tea"}}, nil
}

// Audit is never called, because its RPC has no guard.
func (o *orders) Audit(context.Context, *ordersv1.AuditRequest) (*ordersv1.AuditResponse, error) {
	return &ordersv1.AuditResponse{}, nil
}

// serveOrder is GET /orders/{id}.
func (o *orders) serveOrder(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	order := o.find(r.PathValue("id"))
	if order == nil {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"code":"not_found","message":"there is no such order"}`))
		return
	}
	if err := json.NewEncoder(w).Encode(map[string]string{"id": order.GetId(), "item": order.GetItem(), "userId": order.GetUserId()}); err != nil {
		slog.Debug("the caller did not read the answer", "error", err)
	}
}

// find returns nil when there is no such order. Orders do not change.
func (o *orders) find(id string) *ordersv1.Order {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byID[id]
}
