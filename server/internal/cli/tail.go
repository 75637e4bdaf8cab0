package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

const (
	// silence is after how long without a word the stream counts as dead: the server
	// sends one every 15 s.
	silence   = 40 * time.Second
	firstWait = 500 * time.Millisecond // before the next attempt
	lastWait  = 15 * time.Second
)

type auditTail struct {
	eventFilter

	LastEvent string `help:"Begin after this event, by its id. Default: begin now." placeholder:"ID"`
}

// Run shows events until ctx ends, which is no error. After an outage it goes on after
// the last event that it has seen.
func (a auditTail) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	req := a.watching()
	req.LastEventId = a.LastEvent
	if req.LastEventId == "" { // so that an outage before the first event loses none, either
		newest, err := server.audit.ListEvents(ctx, &tollgatev1.ListEventsRequest{PageSize: 1})
		if err != nil {
			return ended(ctx, err)
		}
		if len(newest.GetEvents()) > 0 {
			req.LastEventId = newest.GetEvents()[0].GetId()
		}
	}
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		heard, err := a.watch(ctx, e, server, req)
		if heard {
			wait = firstWait
		}
		if ctx.Err() != nil || !passing(err, heard) {
			return ended(ctx, err)
		}
		e.say("%s; trying again", explain(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ended(ctx, err)
		}
	}
}

// ended is the result of a tail: Ctrl-C is how it ends.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return exit{nil, 0}
	}
	return err
}

// passing says whether it helps to try again. A credential that has just been good
// may only have expired: the next attempt renews it, or fails for good.
func passing(err error, heard bool) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated:
		return heard
	case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeInternal, connect.CodeResourceExhausted, connect.CodeCanceled, connect.CodeDeadlineExceeded, connect.CodeAborted:
		return true
	}
	return false
}

// watch shows events until the stream ends, and says whether anything came.
func (a auditTail) watch(ctx context.Context, e *env, server *api, req *tollgatev1.WatchEventsRequest) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	stream, err := server.audit.WatchEvents(ctx, req)
	if err != nil {
		return false, &callError{err, server.url}
	}
	defer stream.Close()
	for stream.Receive() {
		heard = true
		watchdog.Reset(silence)
		event := stream.Msg().GetEvent()
		if event == nil {
			continue
		}
		if err := e.showEvent(event); err != nil {
			return heard, err
		}
		req.LastEventId = event.GetId()
	}
	if err := stream.Err(); err != nil {
		return heard, &callError{err, server.url}
	}
	return heard, connect.NewError(connect.CodeUnavailable, fmt.Errorf("the server ended the stream"))
}

// showEvent prints an event on a line of its own, in JSON too; in YAML as a document.
func (e *env) showEvent(event *tollgatev1.Event) error {
	switch e.Output {
	case "json":
		text, err := encode(event)
		if err != nil {
			return err
		}
		var line bytes.Buffer
		if err := json.Compact(&line, text); err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.out, line.String())
		return err
	case "yaml":
		if _, err := fmt.Fprintln(e.out, "---"); err != nil {
			return err
		}
		return writeYAML(e.out, event)
	}
	cells := eventCells(event)
	for i, text := range cells {
		cells[i] = cell(text)
	}
	_, err := fmt.Fprintf(e.out, "%s  %-7s  %s\n", cells[0], cells[1], strings.Join(cells[2:], "  "))
	return err
}
