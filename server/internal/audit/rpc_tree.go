package audit

import (
	"cmp"
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
	"golang.org/x/mod/sumdb/tlog"
)

const checkpointsPage = 250

// GetCheckpoint implements AuditService.
func (h *Handler) GetCheckpoint(ctx context.Context, _ *tollgatev1.GetCheckpointRequest) (*tollgatev1.GetCheckpointResponse, error) {
	latest, err := h.service.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetCheckpointResponse{Checkpoint: checkpointProto(latest)}, nil
}

// ListCheckpoints implements AuditService.
func (h *Handler) ListCheckpoints(ctx context.Context, r *tollgatev1.ListCheckpointsRequest) (*tollgatev1.ListCheckpointsResponse, error) {
	list, err := h.service.Checkpoints(ctx, r.Above, int(cmp.Or(r.PageSize, checkpointsPage)))
	if err != nil {
		return nil, err
	}
	response := &tollgatev1.ListCheckpointsResponse{Checkpoints: make([]*tollgatev1.Checkpoint, len(list))}
	for i, c := range list {
		response.Checkpoints[i] = checkpointProto(c)
	}
	return response, nil
}

// ListAuditKeys implements AuditService.
func (h *Handler) ListAuditKeys(ctx context.Context, _ *tollgatev1.ListAuditKeysRequest) (*tollgatev1.ListAuditKeysResponse, error) {
	list, err := h.service.PublicKeys(ctx)
	if err != nil {
		return nil, err
	}
	response := &tollgatev1.ListAuditKeysResponse{Keys: make([]*tollgatev1.AuditKey, len(list))}
	for i, k := range list {
		response.Keys[i] = &tollgatev1.AuditKey{
			Id: k.ID, Key: k.Text, CreatedAt: protoconv.Timestamp(k.Created), RetiredAt: protoconv.Timestamp(k.Retired),
		}
	}
	return response, nil
}

// ProveEvent implements AuditService.
func (h *Handler) ProveEvent(ctx context.Context, r *tollgatev1.ProveEventRequest) (*tollgatev1.ProveEventResponse, error) {
	proof, latest, err := h.service.Prove(ctx, r.EventId)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ProveEventResponse{
		Leaf: proof.Leaf, Index: proof.Index, Hashes: hashList(proof.Hashes), Checkpoint: checkpointProto(latest), Proof: string(proof.Format()),
	}, nil
}

// ProveConsistency implements AuditService.
func (h *Handler) ProveConsistency(ctx context.Context, r *tollgatev1.ProveConsistencyRequest) (*tollgatev1.ProveConsistencyResponse, error) {
	to, proof, err := h.service.Consistency(ctx, r.From, r.To)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ProveConsistencyResponse{From: r.From, To: to, Hashes: hashList(proof)}, nil
}

// GetTile implements AuditService.
func (h *Handler) GetTile(ctx context.Context, r *tollgatev1.GetTileRequest) (*tollgatev1.GetTileResponse, error) {
	data, err := h.service.Tile(ctx, r.Path)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetTileResponse{Data: data}, nil
}

func checkpointProto(c tree.Signed) *tollgatev1.Checkpoint {
	return &tollgatev1.Checkpoint{Origin: c.Origin, Size: c.Size, Root: c.Root[:], Time: protoconv.Timestamp(c.At), Signed: string(c.Note)}
}

func hashList(hashes []tlog.Hash) [][]byte {
	list := make([][]byte, len(hashes))
	for i, h := range hashes {
		list[i] = h[:]
	}
	return list
}
