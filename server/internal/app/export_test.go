package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/database"
)

const exportURL = "/v1/audit/events/export"

// large records n events of about 18 KB, and waits until the tree holds them.
func (i *instance) large(t *testing.T, n int) {
	t.Helper()
	e := audit.Event{Action: "order.cancel", Outcome: audit.Success, Details: map[string]string{}}
	for d := range 32 {
		e.Details[fmt.Sprint("detail-", d)] = strings.Repeat("x", 512)
	}
	for n > 0 {
		some := min(n, 25)
		backendtest.Must(t, i.db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			events := make([]audit.Event, some)
			for k := range events {
				events[k] = e
			}
			return audit.Append(ctx, tx, i.clock, events...)
		}))
		n -= some
	}
	i.sequenced(t)
}

// sequenced waits until the tree holds everything that was recorded.
func (i *instance) sequenced(t *testing.T) {
	t.Helper()
	recorded := int64(backendtest.Count(t, i.db, `SELECT COUNT(*) FROM audit_events`))
	apitest.Eventually(t, "the tree holds the log", func() bool {
		size, err := i.audit.Size(t.Context())
		return err == nil && size >= recorded
	})
}

// export begins an export over HTTP/1.1.
func (i *instance) export(t *testing.T, token, query string) *http.Response {
	t.Helper()
	return i.exportBy(t, http.DefaultClient, token, query)
}

func (i *instance) exportBy(t *testing.T, client *http.Client, token, query string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", i.URL+exportURL+query, nil)
	backendtest.Must(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	backendtest.Must(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// exportRPC is an export over a stream of the gRPC port.
func exportRPC(t *testing.T, conn *grpc.ClientConn, token string) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(bearer(t.Context(), token), &grpc.StreamDesc{ServerStreams: true}, "/tollgate.v1.AuditService/ExportEvents")
	backendtest.Must(t, err)
	backendtest.Must(t, stream.SendMsg(&tollgatev1.ExportEventsRequest{}))
	backendtest.Must(t, stream.CloseSend())
	return stream
}

// TestExport checks that both ports give the same lines, and how the plain form says
// what it is and that it is complete.
func TestExport(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	i.large(t, 40)
	res := i.export(t, i.admin, "")
	lines, err := io.ReadAll(res.Body)
	backendtest.Must(t, err)
	n := bytes.Count(lines, []byte{'\n'})
	for name, got := range map[string]string{
		"Content-Type": res.Header.Get("Content-Type") + ".", "Tollgate-End-Leaf": res.Header.Get("Tollgate-End-Leaf") + ".",
		"Tollgate-Next-Leaf": res.Trailer.Get("Tollgate-Next-Leaf") + ".", "Cache-Control": res.Header.Get("Cache-Control") + ".",
	} {
		want := map[string]string{"Content-Type": "application/x-ndjson.", "Cache-Control": "no-store."}[name]
		if want == "" {
			want = fmt.Sprint(n, ".")
		}
		backendtest.Equal(t, got, want, "%s", name)
	}
	if n < 40 || !bytes.HasPrefix(lines, []byte(`{"leaf":0,`)) {
		t.Errorf("%d lines, %.100s", n, lines)
	}

	var streamed bytes.Buffer
	for stream, part := exportRPC(t, i.serveGRPC(t), i.admin), (&tollgatev1.ExportEventsResponse{}); !part.GetComplete(); streamed.Write(part.GetLines()) {
		part = &tollgatev1.ExportEventsResponse{}
		backendtest.Must(t, stream.RecvMsg(part))
	}
	if !bytes.HasPrefix(streamed.Bytes(), lines) { // what happened since comes after
		t.Error("the gRPC port gives other lines")
	}
	for query, want := range map[string]string{
		"?format=csv": "text/csv; charset=utf-8; header=present", "?format=csv&fromLeaf=1": "text/csv; charset=utf-8; header=absent", "?format=ocsf": "application/x-ndjson",
	} {
		res := i.export(t, i.admin, query)
		backendtest.Equal(t, res.Header.Get("Content-Type"), want, "%s", query)
		_, err := io.Copy(io.Discard, res.Body)
		backendtest.Must(t, err)
	}
	for query, says := range map[string]string{
		"?format=xml": "format", "?format=unspecified": "format", "?after=yesterday": "after", "?fromLeaf=-1": "fromLeaf", "?from_leaf=1&fromLeaf=2": "more than once",
		"?actor=a": "actor", "?after=2026-01-01T00:00:00Z&after=2027-01-01T00:00:00Z": "after", "?format=%zz": "query",
	} {
		if a := i.call(t, "GET", exportURL+query, i.admin, nil).Want(t, 400); !strings.Contains(a.Str("message"), says) {
			t.Errorf("%s: %s", query, a.Raw)
		}
	}
	i.call(t, "POST", exportURL, i.admin, nil).Want(t, 405)
	i.call(t, "GET", exportURL, "", nil).Want(t, 401)
	_, without := i.newUser(t, "without", "orders:read")
	i.call(t, "GET", exportURL, without, nil).Want(t, 403)
}

// TestExportEndsWithRights checks that a caller who may no longer read the log gets no
// more of it, and cannot take what came for the whole.
func TestExportEndsWithRights(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	i.large(t, 1200) // far more than what connections buffer
	conn := i.serveGRPC(t)
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(h2.CloseIdleConnections)
	plain := func(client *http.Client, cut string) func(t *testing.T, token string) (read func() error) {
		return func(t *testing.T, token string) func() error {
			res := i.exportBy(t, client, token, "")
			return func() error {
				_, err := io.CopyN(io.Discard, res.Body, 64<<10)
				if next := res.Trailer.Get("Tollgate-Next-Leaf"); next != "" {
					t.Errorf("the trailer says that it is complete up to leaf %s", next)
				}
				if err != nil && !strings.Contains(err.Error(), cut) {
					t.Errorf("it ends with %v, want %s", err, cut)
				}
				return err
			}
		}
	}
	for name, begin := range map[string]func(t *testing.T, token string) (read func() error){
		"http1": plain(http.DefaultClient, io.ErrUnexpectedEOF.Error()),
		"http2": plain(&http.Client{Transport: h2}, "stream error"),
		"grpc": func(t *testing.T, token string) func() error {
			stream, part := exportRPC(t, conn, token), &tollgatev1.ExportEventsResponse{}
			return func() error {
				err := stream.RecvMsg(part)
				if part.GetComplete() {
					t.Error("it is complete")
				}
				if err != nil {
					backendtest.Equal(t, status.Code(err), codes.PermissionDenied, "%v", err)
				}
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, token := i.newUser(t, "reader-"+name, "tollgate:audit:read")
			read := begin(t, token)
			backendtest.Must(t, read())
			i.call(t, "DELETE", "/v1/roles/role-of-reader-"+name+"/members/"+i.userID(t, "reader-"+name), i.admin, nil).Want(t, http.StatusOK)
			pace := time.NewTicker(15 * time.Millisecond) // the whole would take 4 s
			defer pace.Stop()
			for range pace.C {
				if read() != nil {
					break
				}
			}
		})
	}
}

// TestExportsAtOnce checks that exports beyond a caller's share are refused, and that an
// export that is given up gives its place back.
func TestExportsAtOnce(t *testing.T) {
	t.Parallel()
	i := startEmbedded(t)
	i.large(t, 1200)
	first, second := i.export(t, i.admin, ""), i.export(t, i.admin, "")
	a := i.call(t, "GET", exportURL, i.admin, nil).Want(t, http.StatusTooManyRequests)
	if a.Reason() != "TOO_MANY_EXPORTS" || a.Header.Get("Retry-After") == "" {
		t.Errorf("%v %s", a.Header, a.Raw)
	}
	first.Body.Close()
	second.Body.Close()
	apitest.Eventually(t, "the places are free", func() bool {
		return i.call(t, "GET", exportURL+"?fromLeaf=9999999", i.admin, nil).Status == http.StatusOK
	})
}
