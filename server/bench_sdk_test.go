package main_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	sdk "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/sdk/conditions"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/protobuf/types/known/emptypb"
)

// sdkCallers are how many goroutines of one process ask at once.
var sdkCallers = []int{1, 16, 64}

// sdkMode is a way of the SDK to decide.
type sdkMode struct {
	name      string
	options   []sdk.Option
	local     bool
	condition bool // the call passes by a condition
}

const (
	sdkSeparate = "Authorize, a request for each"
	sdkShared   = "Authorize, requests are shared (the default)"
	sdkLocal    = "Authorize, decided in the caller"
	sdkByGrant  = "Authorize, one condition, decided in the caller"
)

var sdkModes = []sdkMode{
	{name: sdkSeparate, options: []sdk.Option{sdk.WithoutBatching()}},
	{name: sdkShared},
	{name: sdkLocal, options: []sdk.Option{sdk.WithLocalDecisions(sdk.LocalConfig{})}, local: true},
	{name: sdkByGrant, options: []sdk.Option{sdk.WithLocalDecisions(sdk.LocalConfig{Conditions: conditions.Evaluator()})}, local: true, condition: true},
}

// authorize makes a client of the mode and returns its call.
func (m *measured) authorize(t *testing.T, mode sdkMode) func(context.Context) error {
	t.Helper()
	options := append([]sdk.Option{sdk.WithAPIKey(m.key), sdk.WithTimeout(10 * time.Second)}, mode.options...)
	client, err := sdk.New(m.URL, options...)
	backendtest.Must(t, err)
	t.Cleanup(client.Close)
	if mode.local {
		backendtest.Must(t, client.WaitPolicy(t.Context(), 0))
	}
	request := sdk.AuthorizeRequest{Credential: m.token, Permission: "orders:read", Resource: "orders/42"}
	if mode.condition {
		request.Permission, request.Resource = "documents:read", "documents/plan"
		request.ResourceAttributes, request.Context = map[string]any{"owner": m.alice}, map[string]string{"tenant": "acme"}
	}
	return func(ctx context.Context) error {
		d, err := client.Authorize(ctx, request)
		if err != nil {
			return err
		}
		return d.Err()
	}
}

// nullClient is Connect's own client of the null RPC, as the SDK's connections
// would carry it.
func (b *bench) nullClient() func(context.Context) error {
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	client := connect.NewClient[emptypb.Empty, emptypb.Empty](&http.Client{Transport: transport}, "http://"+b.null.connect+nullProcedure)
	return func(ctx context.Context) error {
		_, err := client.CallUnary(ctx, connect.NewRequest(&emptypb.Empty{}))
		return err
	}
}

// sdk measures the modes of the SDK, with more and more callers in this process.
func (b *bench) sdk(t *testing.T, m *measured) []*row {
	t.Helper()
	null := b.nullClient()
	calls := make([]func(context.Context) error, len(sdkModes))
	for i, mode := range sdkModes {
		calls[i] = m.authorize(t, mode)
		if err := calls[i](b.ctx); err != nil {
			t.Fatalf("%s: %v", mode.name, err)
		}
	}
	if b.each == 0 {
		backendtest.Must(t, null(b.ctx))
		return nil
	}
	rows := make([]*row, 0, len(sdkCallers)*(len(sdkModes)+1))
	for _, callers := range sdkCallers {
		over := strconv.Itoa(callers)
		first := &row{wire: over, name: "null"}
		group := []*row{first}
		for _, mode := range sdkModes {
			group = append(group, &row{wire: over, name: mode.name})
		}
		for again := range b.rounds {
			run := func(pid int, name string, call func(context.Context) error) sample {
				b.step("SDK, %s callers, %s, run %d of %d", over, name, again+1, b.rounds)
				return b.measure(t, pid, func() (loaded, error) { return drive(b.ctx, callers, b.each, call) })
			}
			nothing := run(b.null.pid, "null", null)
			first.samples = append(first.samples, nothing)
			for i, mode := range sdkModes {
				s := run(m.cmd.Process.Pid, mode.name, calls[i])
				s.null = &nothing
				group[i+1].samples = append(group[i+1].samples, s)
			}
		}
		rows = append(rows, group...)
	}
	return rows
}

// sdkLoads is how many loads sdk makes.
func (b *bench) sdkLoads() int { return b.rounds * len(sdkCallers) * (len(sdkModes) + 1) }
