package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/gen/tollgate/v1/tollgatev1connect"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/guard"
)

// watchPath is the path of the stream.
const watchPath = "/v1/audit/events/watch"

// events serves WatchEvents as Server-Sent Events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html), which curl
// -N and browsers read.
type events struct {
	guard   *guard.Guard
	service *audit.Service
	codec   strictJSON
}

func (h *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const procedure = tollgatev1connect.AuditServiceWatchEventsProcedure
	requestID := caller.From(r.Context()).RequestID
	if r.Method != http.MethodGet { // a HEAD would watch and show nothing
		w.Header().Set("Allow", http.MethodGet)
		writePlain(w, r, http.StatusMethodNotAllowed, requestID)
		return
	}
	filter, err := watchFilter(r)
	if err != nil {
		writeFault(w, fault.From(err), requestID)
		return
	}
	filter.LastEventId = r.Header.Get("Last-Event-ID")
	ctx, err := h.guard.Admit(r.Context(), procedure, r.Header, w.Header(), filter)
	if err != nil {
		h.guard.Count(fault.Of(r.Context(), err))
		writeFault(w, fault.Of(r.Context(), err), requestID)
		return
	}
	ctx, done, err := h.guard.Watch(ctx, procedure, r.Header)
	if err != nil {
		h.guard.Count(fault.Of(r.Context(), err))
		writeFault(w, fault.Of(r.Context(), err), requestID)
		return
	}
	defer done()

	out := http.NewResponseController(w)
	write := func(format string, args ...any) error {
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return err
		}
		return out.Flush()
	}
	begun := false
	err = audit.NewHandler(h.service).Watch(ctx, filter, func(res *tollgatev1.WatchEventsResponse) error {
		if !begun { // from here on no event is missed
			begun = true
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			return write(": watching\n\n")
		}
		if res.GetEvent() == nil {
			return write(": still here\n\n")
		}
		body, err := h.codec.Marshal(res.GetEvent())
		if err != nil {
			return err
		}
		return write("id: %s\nevent: audit\ndata: %s\n\n", res.GetEvent().GetId(), body)
	})
	if !begun {
		if err != nil {
			h.guard.Count(fault.From(err))
			writeFault(w, fault.From(err), requestID)
		}
		return
	}
	if ended := endOf(ctx, err); ended != nil {
		out := fault.NewWire(fault.Connect(ended, requestID))
		write("event: error\ndata: {\"code\":%q,\"message\":%q}\n\n", out.Code, out.Message) //nolint:errcheck // it is over anyway
	}
}

// endOf is why the stream ended, nil when the caller hung up.
func endOf(ctx context.Context, err error) *fault.Error {
	var ended *fault.Error
	if errors.As(context.Cause(ctx), &ended) || errors.As(err, &ended) {
		return ended
	}
	return nil
}

// watchFilter reads the query; an unknown parameter is an error, as on every
// other path.
func watchFilter(r *http.Request) (*tollgatev1.WatchEventsRequest, error) {
	filter := &tollgatev1.WatchEventsRequest{}
	query, refused := readQuery(r)
	if refused != nil {
		return nil, refused
	}
	message := filter.ProtoReflect()
	fields := message.Descriptor().Fields()
	for name, values := range query {
		field := fields.ByJSONName(name)
		if field == nil {
			field = fields.ByTextName(name)
		}
		if field == nil || field.Name() == "last_event_id" { // a header
			return nil, fault.Field(name, "is not a parameter here; there are %s", strings.Join(parameters(fields), ", "))
		}
		if len(values) > 1 || message.Has(field) {
			return nil, fault.Field(name, "is in the query more than once; give it once")
		}
		if field.Enum() == nil {
			message.Set(field, protoreflect.ValueOfString(values[0]))
			continue
		}
		outcome, known := tollgatev1.Outcome_value[strings.ToUpper(values[0])]
		if !known {
			return nil, fault.Field("outcome", "must be one of OUTCOME_SUCCESS, OUTCOME_DENIED, OUTCOME_FAILURE")
		}
		filter.Outcome = tollgatev1.Outcome(outcome)
	}
	return filter, nil
}

func parameters(fields protoreflect.FieldDescriptors) (names []string) {
	for i := range fields.Len() {
		if field := fields.Get(i); field.Name() != "last_event_id" {
			names = append(names, field.JSONName())
		}
	}
	return names
}
