package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/term"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
)

type auditExport struct {
	Format   string        `help:"ndjson, csv or ocsf (Open Cybersecurity Schema Framework)." enum:"ndjson,csv,ocsf" default:"ndjson" placeholder:"NAME"`
	After    string        `help:"Only events at or after this time: 2026-08-03T09:00:00Z, or 24h, 7d ago." placeholder:"TIME"`
	Before   string        `help:"Only events before this time." placeholder:"TIME"`
	Out      string        `help:"Write to this file, which must be new. Default: standard output." placeholder:"FILE" type:"path"`
	Resume   bool          `help:"Go on after the last whole line of --out, if it is there. Give the same other flags as before."`
	RetryFor time.Duration `help:"How long to try again when the server does not answer or breaks off." default:"5m" placeholder:"TIME"`
}

// Run writes every event that the server's tree holds when it begins, the oldest first.
// After an outage it goes on where it was.
func (a auditExport) Run(ctx context.Context, e *env) (err error) {
	server, err := e.connect()
	if err != nil {
		return err
	}
	if a.Resume && a.Out == "" {
		return errors.New("--resume needs --out FILE: the file says where to go on")
	}
	format, _ := protoyaml.EnumNumber(tollgatev1.ExportFormat(0).Descriptor(), a.Format)
	req := &tollgatev1.ExportEventsRequest{Format: tollgatev1.ExportFormat(format)}
	if req.After, err = moment(e.now(), "--after", a.After); err != nil {
		return err
	}
	if req.Before, err = moment(e.now(), "--before", a.Before); err != nil {
		return err
	}
	x := &exportRun{env: e, server: server, req: req, out: e.out, began: e.now(), progress: isTerminal(e.err)}
	if a.Out != "" {
		file, from, err := openExport(a.Out, a.Format, a.Resume)
		if err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, file.Sync(), file.Close())
		}()
		x.out, req.FromLeaf = file, from
	} else if isTerminal(e.out) {
		if a.Format == "csv" {
			return errors.New("a terminal may take what is in the log for commands; write CSV to a file: --out FILE")
		}
		x.clean = terminal.JSON
	}
	return x.run(ctx, a.RetryFor)
}

// isTerminal says whether somebody reads what is written to w.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// exportRun is an export on its way.
type exportRun struct {
	*env
	server *api
	req    *tollgatev1.ExportEventsRequest
	out    io.Writer
	clean  func([]byte) []byte // what is written to a terminal; nil: as it is

	began    time.Time
	progress bool      // is shown
	shown    time.Time // the last one
	bytes    int64
}

// run receives the export to its end, over as many connections as it takes.
func (x *exportRun) run(ctx context.Context, retryFor time.Duration) error {
	last := x.now() // when anything came
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		heard, err := x.receive(ctx)
		if err == nil {
			x.say("exported up to leaf %d: %d bytes in %s", x.req.GetFromLeaf(), x.bytes, x.now().Sub(x.began).Round(time.Millisecond))
			return nil
		}
		if heard {
			wait, last = firstWait, x.now()
		}
		if _, final := errors.AsType[finalError](err); final || ctx.Err() != nil || !passing(err, heard) || x.now().Sub(last) >= retryFor {
			return x.incomplete(err)
		}
		x.say("%s; trying again", explain(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return x.incomplete(err)
		}
	}
}

// incomplete tells a person what there is of an export that ends with an error.
func (x *exportRun) incomplete(err error) error {
	x.say("the export is not complete: leaf %d is the next one", x.req.GetFromLeaf())
	return err
}

// finalError is one that no other attempt can mend.
type finalError struct{ error }

func (f finalError) Unwrap() error { return f.error }

// receive writes what one connection brings, and says whether anything came. It is nil
// when the server has said that nothing is missing.
func (x *exportRun) receive(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	stream, err := x.server.audit.ExportEvents(ctx, x.req)
	if err != nil {
		return false, &callError{err, x.server.url}
	}
	defer stream.Close()
	for stream.Receive() {
		heard = true
		watchdog.Reset(silence)
		part := stream.Msg()
		lines := part.GetLines()
		if x.clean != nil {
			lines = x.clean(lines)
		}
		n, err := x.out.Write(lines)
		x.bytes += int64(n)
		if err != nil {
			// What came is maybe there in part: another attempt would repeat it behind that.
			return true, finalError{fmt.Errorf("write the export: %w; --resume goes on with --out after the last whole line", err)}
		}
		if part.GetNextLeaf() < x.req.GetFromLeaf() {
			return true, finalError{fmt.Errorf("%s goes back to leaf %d after %d", x.server.url, part.GetNextLeaf(), x.req.GetFromLeaf())}
		}
		x.req.FromLeaf = part.GetNextLeaf()
		x.show(part.GetNextLeaf(), part.GetEndLeaf())
		if part.GetComplete() {
			return true, nil
		}
	}
	if err := stream.Err(); err != nil {
		return heard, &callError{err, x.server.url}
	}
	return heard, connect.NewError(connect.CodeUnavailable, errors.New("the server ended the export before its end"))
}

// show tells a person how far it is.
func (x *exportRun) show(next, end int64) {
	if !x.progress || end <= 0 || x.now().Sub(x.shown) < 200*time.Millisecond && next < end {
		return
	}
	x.shown = x.now()
	fmt.Fprintf(x.err, "\r%d of %d events (%d %%)\x1b[K", next, end, 100*min(next, end)/end)
	if next >= end {
		fmt.Fprint(x.err, "\r\x1b[K")
	}
}
