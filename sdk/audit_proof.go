package tollgate

import (
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"golang.org/x/mod/sumdb/tlog"
)

// AuditLogKeys are the public keys of an audit log, from GET /v1/audit/keys or, better, from a
// place that whoever runs the server cannot change.
type AuditLogKeys struct{ keys auditlog.Keys }

// ParseAuditLogKeys reads keys in the form NAME+HASH+KEY (https://c2sp.org/signed-note).
func ParseAuditLogKeys(keys ...string) (AuditLogKeys, error) {
	parsed, err := auditlog.ParseKeys(keys...)
	return AuditLogKeys{parsed}, err
}

// AuditCheckpoint is what a log had when it signed.
type AuditCheckpoint struct {
	Origin string // the log's name
	Size   int64  // how many events
	Root   [32]byte
}

// ProvenEvent is an event that a log has.
type ProvenEvent struct {
	Index      int64           // its place in the log, from 0 on
	Checkpoint AuditCheckpoint // that proves it

	ID         string
	Time       time.Time // UTC, to the microsecond
	UserID     string
	Username   string
	SessionID  string
	APIKeyID   string
	Action     string
	Outcome    string // "success", "denied" or "failure"
	Reason     string
	Resource   string
	IP         string
	UserAgent  string
	RequestID  string
	Details    map[string]string
	RecordedBy string
}

// VerifyProof checks a proof, the content of a .tlog-proof file
// (https://c2sp.org/tlog-proof) as GET /v1/audit/tlog/proof/{event_id} gives it, without
// asking anybody, and returns the event that it proves. Every error means that nothing is
// proven.
func (k AuditLogKeys) VerifyProof(proof []byte) (*ProvenEvent, error) {
	p, err := auditlog.ParseProof(proof)
	if err != nil {
		return nil, fmt.Errorf("tollgate: %w", err)
	}
	leaf, checkpoint, err := p.Verify(k.keys)
	if err != nil {
		return nil, fmt.Errorf("tollgate: %w", err)
	}
	return &ProvenEvent{
		Index: p.Index, Checkpoint: auditCheckpoint(checkpoint), ID: leaf.ID, Time: leaf.Time,
		UserID: leaf.Actor.UserID, Username: leaf.Actor.Username, SessionID: leaf.Actor.SessionID, APIKeyID: leaf.Actor.APIKeyID,
		Action: leaf.Action, Outcome: leaf.Outcome, Reason: leaf.Reason, Resource: leaf.Resource, IP: leaf.IP,
		UserAgent: leaf.UserAgent, RequestID: leaf.RequestID, Details: leaf.Details, RecordedBy: leaf.RecordedBy,
	}, nil
}

// VerifyCheckpoint checks the signature of a checkpoint
// (https://c2sp.org/tlog-checkpoint).
func (k AuditLogKeys) VerifyCheckpoint(signed []byte) (AuditCheckpoint, error) {
	c, err := auditlog.OpenCheckpoint(signed, k.keys)
	if err != nil {
		return AuditCheckpoint{}, fmt.Errorf("tollgate: %w", err)
	}
	return auditCheckpoint(c), nil
}

// VerifyConsistency checks that a later checkpoint's log begins with an earlier one's, by
// the hashes of ProveConsistency (RFC 6962 §2.1.2): that nothing was changed between.
// Both checkpoints are from VerifyCheckpoint.
func VerifyConsistency(earlier, later AuditCheckpoint, hashes [][]byte) error {
	if earlier.Origin != later.Origin {
		return fmt.Errorf("tollgate: the checkpoints are of two logs, %q and %q", earlier.Origin, later.Origin)
	}
	if earlier.Size < 1 || earlier.Size > later.Size {
		return fmt.Errorf("tollgate: a log of %d events does not begin with one of %d", later.Size, earlier.Size)
	}
	proof := make(tlog.TreeProof, len(hashes))
	for i, h := range hashes {
		if len(h) != tlog.HashSize {
			return fmt.Errorf("tollgate: hash %d has %d bytes, not %d", i, len(h), tlog.HashSize)
		}
		proof[i] = tlog.Hash(h)
	}
	if err := tlog.CheckTree(proof, later.Size, later.Root, earlier.Size, earlier.Root); err != nil {
		return fmt.Errorf("tollgate: the log of %d events does not begin with the one of %d that was signed before", later.Size, earlier.Size)
	}
	return nil
}

func auditCheckpoint(c auditlog.Checkpoint) AuditCheckpoint {
	return AuditCheckpoint{Origin: c.Origin, Size: c.Size, Root: c.Root}
}
