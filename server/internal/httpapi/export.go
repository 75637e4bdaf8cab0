package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/audit/export"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// exportPath is the path of the lines.
const exportPath = "/v1/audit/events/export"

// The fields that frame an export: Tollgate-End-Leaf before it, and after a whole one
// the trailer Tollgate-Next-Leaf, which a cut one does not have.
const (
	endLeafField  = "Tollgate-End-Leaf"
	nextLeafField = "Tollgate-Next-Leaf"
)

// exports serves ExportEvents as plain lines, which curl and browsers keep as a file. One
// that ends early is cut as HTTP has it: without the last chunk (RFC 9112 §7.1), or by a
// reset of the stream (RFC 9113 §5.4.2), so that no client takes it for a whole one.
type exports struct {
	guard    *guard.Guard
	exporter *export.Exporter
}

func (h *exports) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const procedure = tollgatev1connect.AuditServiceExportEventsProcedure
	requestID := caller.From(r.Context()).RequestID
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		writePlain(w, r, http.StatusMethodNotAllowed, requestID)
		return
	}
	refuse := func(err error) {
		f := fault.Of(r.Context(), err)
		h.guard.Count(f)
		writeFault(w, f, requestID)
	}
	query, err := exportQuery(r)
	if err != nil {
		refuse(err)
		return
	}
	ctx, err := h.guard.Admit(r.Context(), procedure, r.Header, w.Header(), query)
	if err != nil {
		refuse(err)
		return
	}
	ctx, done, err := h.guard.Watch(ctx, procedure, r.Header)
	if err != nil {
		refuse(err)
		return
	}
	defer done()

	out := http.NewResponseController(w)
	begun := false
	err = h.exporter.Export(ctx, query, func(part *tollgatev1.ExportEventsResponse) error {
		if !begun {
			begun = true
			header := w.Header()
			header.Set("Content-Type", contentType(query))
			header.Set(endLeafField, strconv.FormatInt(part.GetEndLeaf(), 10))
			header.Set("Trailer", nextLeafField)
			w.WriteHeader(http.StatusOK)
		}
		if _, err := w.Write(part.GetLines()); err != nil {
			return err
		}
		if part.GetComplete() {
			w.Header().Set(nextLeafField, strconv.FormatInt(part.GetNextLeaf(), 10))
		}
		return out.Flush()
	})
	switch {
	case err == nil:
	case begun:
		panic(http.ErrAbortHandler) // what follows must not look like the end
	default:
		refuse(err)
	}
}

func contentType(query *tollgatev1.ExportEventsRequest) string {
	return export.FormatOf(query).ContentType(query.GetFromLeaf() == 0)
}

// exportQuery reads the query; an unknown parameter is an error, as on every other path.
func exportQuery(r *http.Request) (*tollgatev1.ExportEventsRequest, error) {
	q := &tollgatev1.ExportEventsRequest{}
	given, refused := readQuery(r)
	if refused != nil {
		return nil, refused
	}
	for name, values := range given {
		if len(values) > 1 {
			return nil, fault.Field(name, "is in the query more than once; give it once")
		}
		var err error
		switch value := values[0]; name {
		case "format":
			format, known := tollgatev1.ExportFormat_value["EXPORT_FORMAT_"+strings.ToUpper(value)]
			if !known || format == 0 {
				return nil, fault.Field(name, "must be one of ndjson, csv, ocsf")
			}
			q.Format = tollgatev1.ExportFormat(format)
		case "after":
			q.After, err = queryTime(name, value)
		case "before":
			q.Before, err = queryTime(name, value)
		case "fromLeaf", "from_leaf":
			if given.Has("fromLeaf") && given.Has("from_leaf") {
				return nil, fault.Field(name, "is in the query more than once; give it once")
			}
			if q.FromLeaf, err = strconv.ParseInt(value, 10, 64); err != nil || q.FromLeaf < 0 {
				return nil, fault.Field(name, "must be the leaf to begin at, 0 or more")
			}
		default:
			return nil, fault.Field(name, "is not a parameter here; there are format, after, before and fromLeaf")
		}
		if err != nil {
			return nil, err
		}
	}
	return q, nil
}

func queryTime(name, value string) (*timestamppb.Timestamp, error) {
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return nil, fault.Field(name, "must be a time of RFC 3339, such as 2026-11-24T15:04:05Z")
	}
	return timestamppb.New(t), nil
}
