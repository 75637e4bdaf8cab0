package cli

import (
	"context"
	"errors"
	"os"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type auditCheckpoint struct {
	Out string `help:"Write it to this file. Default: standard output." placeholder:"FILE" type:"path"`
}

// Run shows the newest checkpoint, as it is signed.
func (a auditCheckpoint) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.audit.GetCheckpoint(ctx, &tollgatev1.GetCheckpointRequest{})
	if err != nil {
		return err
	}
	return e.write(a.Out, []byte(res.GetCheckpoint().GetSigned()))
}

// write writes to a file, or to standard output when none is named.
func (e *env) write(path string, content []byte) error {
	if path != "" {
		return save(path, content)
	}
	if isTerminal(e.out) {
		content = []byte(terminal.Lines(string(content)))
	}
	_, err := e.out.Write(content)
	return err
}

type auditProve struct {
	Event string `arg:"" help:"The event's id."`
	Out   string `help:"Write it to this file, NAME.tlog-proof. Default: standard output." placeholder:"FILE" type:"path"`
}

func (auditProve) Help() string {
	return `The proof says that the log has the event, and can be checked by anybody, without a server: tollgate audit check FILE --key KEY. It has the event itself in it.`
}

// Run shows the proof of an event.
func (a auditProve) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.audit.ProveEvent(ctx, &tollgatev1.ProveEventRequest{EventId: a.Event})
	if err != nil {
		return err
	}
	return e.write(a.Out, []byte(res.GetProof()))
}

type auditCheck struct {
	File string   `arg:"" help:"The proof, as tollgate audit prove wrote it." type:"existingfile"`
	Key  []string `help:"The log's key, NAME+HASH+KEY, as tollgate audit keys shows it." required:"" placeholder:"KEY" sep:"none"`
}

func (auditCheck) Help() string {
	return `Asks no server. Exit status 0: the log that the key is of has the event; 1: that is not proven.`
}

// Run checks a proof and shows its event.
func (a auditCheck) Run(e *env) error {
	content, err := os.ReadFile(a.File)
	if err != nil {
		return err
	}
	keys, err := auditlog.ParseKeys(a.Key...)
	if err != nil {
		return err
	}
	proof, err := auditlog.ParseProof(content)
	if err != nil {
		return err
	}
	leaf, checkpoint, err := proof.Verify(keys)
	if _, unsigned := errors.AsType[*note.UnverifiedNoteError](err); unsigned {
		return errors.New("not proven: none of these keys signed it; one that has been replaced since may have, tollgate audit keys shows all of a log")
	}
	if err != nil {
		return errors.Join(errors.New("not proven"), err)
	}
	e.say("proven: event %d of the %d that %s had", proof.Index, checkpoint.Size, checkpoint.Origin)
	return e.show(eventOf(&leaf), func(t *table) {
		t.header = eventHeader
		t.row(eventCells(eventOf(&leaf))...)
	})
}

// eventOf is a leaf's event as the API has it.
func eventOf(l *auditlog.Leaf) *tollgatev1.Event {
	return &tollgatev1.Event{
		Id: l.ID, Time: timestamppb.New(l.Time), Action: l.Action, Outcome: eventFilter{Outcome: l.Outcome}.outcome(), Reason: l.Reason,
		Actor:    &tollgatev1.Actor{UserId: l.Actor.UserID, Username: l.Actor.Username, SessionId: l.Actor.SessionID, ApiKeyId: l.Actor.APIKeyID},
		Resource: l.Resource, Ip: l.IP, UserAgent: l.UserAgent, RequestId: l.RequestID, Details: l.Details, RecordedBy: l.RecordedBy,
	}
}

type auditKeys struct{}

// Run shows the log's keys.
func (auditKeys) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.audit.ListAuditKeys(ctx, &tollgatev1.ListAuditKeysRequest{})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"KEY", "CREATED", "RETIRED"}
		for _, k := range res.GetKeys() {
			retired := "-"
			if k.GetRetiredAt() != nil {
				retired = k.GetRetiredAt().AsTime().UTC().Format(time.RFC3339)
			}
			t.row(k.GetKey(), k.GetCreatedAt().AsTime().UTC().Format(time.RFC3339), retired)
		}
	})
}
