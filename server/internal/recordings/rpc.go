package recordings

import (
	"context"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

// Handler serves the RPCs of AuditService that are about recordings.
type Handler struct{ service *Service }

// NewHandler serves s.
func NewHandler(s *Service) *Handler { return &Handler{s} }

// CreateRecording adds a recording.
func (h *Handler) CreateRecording(ctx context.Context, r *tollgatev1.CreateRecordingRequest) (*tollgatev1.CreateRecordingResponse, error) {
	made, revision, err := h.service.Create(ctx, Recording{
		Name: r.GetName(), Description: r.GetDescription(), Permission: r.GetPermission(), Sample: int64(r.GetSample()),
	})
	if err != nil {
		return nil, err
	}
	return &tollgatev1.CreateRecordingResponse{Recording: recordingProto(made), Revision: revision}, nil
}

// ListRecordings returns a page of recordings.
func (h *Handler) ListRecordings(ctx context.Context, r *tollgatev1.ListRecordingsRequest) (*tollgatev1.ListRecordingsResponse, error) {
	list, next, err := h.service.List(ctx, r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.ListRecordingsResponse{Recordings: protoconv.List(list, recordingProto), NextPageToken: next}, nil
}

// GetRecording returns one recording.
func (h *Handler) GetRecording(ctx context.Context, r *tollgatev1.GetRecordingRequest) (*tollgatev1.GetRecordingResponse, error) {
	found, err := h.service.Get(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.GetRecordingResponse{Recording: recordingProto(found)}, nil
}

// UpdateRecording changes a recording.
func (h *Handler) UpdateRecording(ctx context.Context, r *tollgatev1.UpdateRecordingRequest) (*tollgatev1.UpdateRecordingResponse, error) {
	edit := Edit{Description: r.Description, Permission: r.Permission}
	if r.Sample != nil {
		edit.Sample = new(int64(r.GetSample()))
	}
	changed, revision, err := h.service.Update(ctx, r.GetName(), edit)
	if err != nil {
		return nil, err
	}
	return &tollgatev1.UpdateRecordingResponse{Recording: recordingProto(changed), Revision: revision}, nil
}

// DeleteRecording removes a recording.
func (h *Handler) DeleteRecording(ctx context.Context, r *tollgatev1.DeleteRecordingRequest) (*tollgatev1.DeleteRecordingResponse, error) {
	revision, err := h.service.Delete(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return &tollgatev1.DeleteRecordingResponse{Revision: revision}, nil
}

func recordingProto(r Recording) *tollgatev1.Recording {
	return &tollgatev1.Recording{
		Name: r.Name, Description: r.Description, Permission: r.Permission, Sample: int32(r.Sample),
		CreatedAt: protoconv.Timestamp(r.CreatedAt), UpdatedAt: protoconv.Timestamp(r.UpdatedAt),
	}
}
