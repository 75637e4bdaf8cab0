package export

import (
	"context"

	"connectrpc.com/connect"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/protoconv"
)

var formats = protoconv.NewEnum[Format, tollgatev1.ExportFormat](tollgatev1.ExportFormat_name)

// Exporter serves ExportEvents of the AuditService.
type Exporter struct{ service *Service }

// NewExporter serves s.
func NewExporter(s *Service) *Exporter { return &Exporter{s} }

// ExportEvents implements AuditService.
func (x *Exporter) ExportEvents(ctx context.Context, r *tollgatev1.ExportEventsRequest, stream *connect.ServerStream[tollgatev1.ExportEventsResponse]) error {
	return x.Export(ctx, r, stream.Send)
}

// Export is ExportEvents for any stream. When ctx ends, it returns its cause.
func (x *Exporter) Export(ctx context.Context, r *tollgatev1.ExportEventsRequest, send func(*tollgatev1.ExportEventsResponse) error) error {
	after, err := protoconv.Time("after", r.After)
	if err != nil {
		return err
	}
	before, err := protoconv.Time("before", r.Before)
	if err != nil {
		return err
	}
	return x.service.Export(ctx, Query{Format: formats.Text(r.Format), After: after, Before: before, From: r.FromLeaf}, func(p Part) error {
		return send(&tollgatev1.ExportEventsResponse{Lines: p.Lines, NextLeaf: p.Next, EndLeaf: p.End, Complete: p.Complete})
	})
}

// FormatOf is the format that a request asks for.
func FormatOf(r *tollgatev1.ExportEventsRequest) Format { return formats.Text(r.GetFormat()) }
