package tollgate_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const auditOrigin = "tollgate.example/audit"

// auditSigner signs notes with a key that is the same every time.
type auditSigner struct {
	name      string
	algorithm byte // of the signature: 1, or 4 for a witness's
	private   ed25519.PrivateKey
}

func newAuditSigner(name, seed string, algorithm byte) auditSigner {
	sum := sha256.Sum256([]byte(seed))
	return auditSigner{name, algorithm, ed25519.NewKeyFromSeed(sum[:])}
}

func (s auditSigner) public() []byte {
	return append([]byte{s.algorithm}, s.private.Public().(ed25519.PublicKey)...)
}

func (s auditSigner) hash() []byte { return keyHash(s.name, s.public()) }

func keyHash(name string, public []byte) []byte {
	sum := sha256.Sum256(append([]byte(name+"\n"), public...))
	return sum[:4]
}

// key is the text that its signatures are verified with.
func (s auditSigner) key() string { return keyText(s.name, s.public()) }

// keyText is the text of a key of any bytes.
func keyText(name string, public []byte) string {
	return fmt.Sprintf("%s+%x+%s", name, keyHash(name, public), base64.StdEncoding.EncodeToString(public))
}

// raw is what a line of a signature has in base64.
func (s auditSigner) raw(text string) []byte {
	if s.algorithm == 4 {
		at := binary.BigEndian.AppendUint64(nil, 1_780_000_000)
		signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", 1_780_000_000, text)
		return bytes.Join([][]byte{s.hash(), at, ed25519.Sign(s.private, []byte(signed))}, nil)
	}
	return append(s.hash(), ed25519.Sign(s.private, []byte(text))...)
}

func (s auditSigner) line(text string) string { return signatureLine(s.name, s.raw(text)) }

func signatureLine(name string, raw []byte) string {
	return "— " + name + " " + base64.StdEncoding.EncodeToString(raw) + "\n"
}

var (
	auditKey  = newAuditSigner(auditOrigin, "log", 1)
	nextKey   = newAuditSigner(auditOrigin, "the log's next", 1)
	otherKey  = newAuditSigner(auditOrigin, "who says to be the log", 1)
	otherLog  = newAuditSigner("other.example/audit", "another log", 1)
	auditSeen = newAuditSigner("witness.example/w", "witness", 4)
)

// signedNote is a text with signatures, the log's unless others are given.
func signedNote(text string, signers ...auditSigner) string {
	if len(signers) == 0 {
		signers = []auditSigner{auditKey}
	}
	all := text + "\n"
	for _, s := range signers {
		all += s.line(text)
	}
	return all
}

func checkpointText(size any, root tlog.Hash) string {
	return fmt.Sprintf("%s\n%v\n%s\n", auditOrigin, size, base64.StdEncoding.EncodeToString(root[:]))
}

// auditTree is a log of 1000 events.
type auditTree struct {
	leaves [][]byte
	stored []tlog.Hash
}

func (l *auditTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		list[i] = l.stored[index]
	}
	return list, nil
}

func newAuditTree(t *testing.T) *auditTree {
	t.Helper()
	l := &auditTree{}
	for i := range 1000 {
		l.leaves = append(l.leaves, auditLeaf(i).Bytes())
		hashes, err := tlog.StoredHashes(int64(i), l.leaves[i], l)
		must(t, err)
		l.stored = append(l.stored, hashes...)
	}
	return l
}

func auditLeaf(i int) *auditlog.Leaf {
	return &auditlog.Leaf{
		ID: fmt.Sprint("event-", i), Time: time.Date(2026, 3, 1, 12, 0, i, 1000*i, time.UTC),
		Actor:  auditlog.Actor{UserID: "u1", Username: "mia", SessionID: "s1"},
		Action: "order.cancel", Outcome: "success", Resource: fmt.Sprint("orders/", i), IP: "203.0.113.7",
		Details: map[string]string{"number": fmt.Sprint(i)}, Salt: fmt.Appendf(nil, "%016d", i),
	}
}

// proof is that of an event, by a checkpoint of so many.
func (l *auditTree) proof(t *testing.T, index, size int64, signers ...auditSigner) *auditlog.Proof {
	t.Helper()
	hashes, err := tlog.ProveRecord(size, index, l)
	must(t, err)
	return &auditlog.Proof{Leaf: l.leaves[index], Index: index, Hashes: hashes, Checkpoint: []byte(signedNote(l.checkpoint(t, size), signers...))}
}

func (l *auditTree) checkpoint(t *testing.T, size int64) string {
	t.Helper()
	root, err := tlog.TreeHash(size, l)
	must(t, err)
	return checkpointText(size, root)
}

// loneProof is that of a log's only event.
func loneProof(leaf string) string {
	p := auditlog.Proof{Leaf: []byte(leaf), Checkpoint: []byte(signedNote(checkpointText(1, tlog.RecordHash([]byte(leaf)))))}
	return string(p.Format())
}

// deepProof is that of the last of so many events, of which nobody has most.
func deepProof(size int64) string {
	p := auditlog.Proof{Leaf: auditLeaf(7).Bytes(), Index: size - 1}
	hash := tlog.RecordHash(p.Leaf)
	for at := size; at > 1; {
		whole := int64(1)
		for whole < at-whole {
			whole *= 2
		}
		at -= whole
		p.Hashes = append(p.Hashes, tlog.RecordHash(fmt.Append(nil, whole)))
	}
	slices.Reverse(p.Hashes) // the leaf's sibling comes first
	for _, h := range p.Hashes {
		hash = tlog.NodeHash(h, hash)
	}
	p.Checkpoint = []byte(signedNote(checkpointText(size, hash)))
	return string(p.Format())
}

// TestAuditSigner: the keys are those that note makes.
func TestAuditSigner(t *testing.T) {
	t.Parallel()
	want, err := note.NewEd25519VerifierKey(auditOrigin, auditKey.private.Public().(ed25519.PublicKey))
	must(t, err)
	if got := auditKey.key(); got != want || strings.Count(got, "+") < 2 {
		t.Errorf("%s, but note says %s", got, want)
	}
}
