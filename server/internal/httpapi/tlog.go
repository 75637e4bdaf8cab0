package httpapi

import (
	"context"
	"net/http"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// tlogPath is where the audit log is for clients of transparency logs
// (https://c2sp.org/tlog-tiles): checkpoint, tile/…, and proof/EVENT.
const tlogPath = "/v1/audit/tlog/"

// tlog answers with the bytes alone of what RPCs of the AuditService return.
type tlog struct {
	guard *guard.Guard
	audit tollgatev1connect.AuditServiceHandler
}

const (
	plainText = "text/plain; charset=utf-8"
	octets    = "application/octet-stream"
)

func (h *tlog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writePlain(w, r, http.StatusMethodNotAllowed, caller.From(r.Context()).RequestID)
		return
	}
	path := strings.TrimPrefix(r.URL.Path, tlogPath)
	switch event, proof := strings.CutPrefix(path, "proof/"); {
	case path == "checkpoint":
		h.answer(w, r, tollgatev1connect.AuditServiceGetCheckpointProcedure, plainText, &tollgatev1.GetCheckpointRequest{}, func(ctx context.Context) ([]byte, error) {
			response, err := h.audit.GetCheckpoint(ctx, &tollgatev1.GetCheckpointRequest{})
			return []byte(response.GetCheckpoint().GetSigned()), err
		})
	case proof:
		request := &tollgatev1.ProveEventRequest{EventId: event}
		h.answer(w, r, tollgatev1connect.AuditServiceProveEventProcedure, plainText, request, func(ctx context.Context) ([]byte, error) {
			response, err := h.audit.ProveEvent(ctx, request)
			return []byte(response.GetProof()), err
		})
	default:
		request := &tollgatev1.GetTileRequest{Path: path}
		h.answer(w, r, tollgatev1connect.AuditServiceGetTileProcedure, octets, request, func(ctx context.Context) ([]byte, error) {
			response, err := h.audit.GetTile(ctx, request)
			return response.GetData(), err
		})
	}
}

// answer asks the guard whether the RPC may be called, calls it, and writes its bytes.
func (h *tlog) answer(w http.ResponseWriter, r *http.Request, procedure, contentType string, request any, call func(context.Context) ([]byte, error)) {
	query, refused := readQuery(r)
	var err error
	switch {
	case refused != nil:
		err = refused
	case len(query) > 0:
		err = fault.New(fault.Invalid, "INVALID_FIELD", "there are no parameters at this path")
	}
	var ctx context.Context
	if err == nil {
		ctx, err = h.guard.Admit(r.Context(), procedure, r.Header, w.Header(), request)
	}
	var body []byte
	if err == nil {
		body, err = call(ctx)
	}
	if err != nil {
		f := fault.Of(r.Context(), err)
		h.guard.Count(f)
		writeFault(w, f, caller.From(r.Context()).RequestID)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Write(body) //nolint:errcheck // the caller hung up
}
