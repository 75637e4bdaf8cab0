package cli

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
)

// exporter is a server that has one line.
type exporter struct {
	tollgatev1connect.UnimplementedAuditServiceHandler

	asked atomic.Int64
}

func (x *exporter) ExportEvents(_ context.Context, _ *tollgatev1.ExportEventsRequest, stream *connect.ServerStream[tollgatev1.ExportEventsResponse]) error {
	x.asked.Add(1)
	return stream.Send(&tollgatev1.ExportEventsResponse{Lines: []byte("{}\n"), NextLeaf: 1, EndLeaf: 1, Complete: true})
}

// TestExportToAFullDisk checks that an export that cannot be written ends at once: another
// attempt would put the lines behind a part of themselves, and never end.
func TestExportToAFullDisk(t *testing.T) {
	t.Parallel()
	x := &exporter{}
	_, handler := tollgatev1connect.NewAuditServiceHandler(x)
	server := httptest.NewServer(handler)
	defer server.Close()
	unwritable, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer unwritable.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var said bytes.Buffer
	run := &exportRun{
		env:    &env{err: &said, now: time.Now},
		server: &api{url: server.URL, audit: tollgatev1connect.NewAuditServiceClient(server.Client(), server.URL)},
		req:    &tollgatev1.ExportEventsRequest{}, out: unwritable, began: time.Now(),
	}
	err = run.run(ctx, time.Hour)
	if err == nil || !strings.Contains(err.Error(), "--resume goes on") || !strings.Contains(said.String(), "is not complete") {
		t.Errorf("%v, said %q", err, &said)
	}
	if asked := x.asked.Load(); asked != 1 {
		t.Errorf("it was asked for %d times", asked)
	}
}
