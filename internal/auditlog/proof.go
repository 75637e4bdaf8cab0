package auditlog

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

const proofHeader = "c2sp.org/tlog-proof@v1\n"

// Proof says that an event is in the log, and is checked without asking anybody
// (https://c2sp.org/tlog-proof).
type Proof struct {
	Leaf       []byte // what Leaf.Bytes gave; the format's "extra"
	Index      int64
	Hashes     tlog.RecordProof
	Checkpoint []byte // signed
}

// Format is the proof as a .tlog-proof file has it.
func (p *Proof) Format() []byte {
	var b bytes.Buffer
	b.WriteString(proofHeader)
	if len(p.Leaf) > 0 {
		fmt.Fprintf(&b, "extra %s\n", base64.StdEncoding.EncodeToString(p.Leaf))
	}
	fmt.Fprintf(&b, "index %d\n", p.Index)
	for _, h := range p.Hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteByte('\n')
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// ParseProof reads what Format makes.
func ParseProof(b []byte) (*Proof, error) {
	bad := func(what string) (*Proof, error) {
		return nil, fmt.Errorf("not a proof (https://c2sp.org/tlog-proof): %s", what)
	}
	if len(b) > maxProof {
		return bad(fmt.Sprintf("it has more than %d bytes", maxProof))
	}
	text, ok := strings.CutPrefix(string(b), proofHeader)
	if !ok {
		return bad("it does not begin with " + strings.TrimSpace(proofHeader))
	}
	head, checkpoint, ok := strings.Cut(text, "\n\n")
	if !ok || checkpoint == "" {
		return bad("it has no checkpoint")
	}
	p := &Proof{Checkpoint: []byte(checkpoint)}
	lines := strings.Split(head, "\n")
	if extra, ok := strings.CutPrefix(lines[0], "extra "); ok {
		leaf, ok := decode(extra)
		if !ok {
			return bad("its extra line is not in base64")
		}
		p.Leaf, lines = leaf, lines[1:]
	}
	if len(lines) == 0 {
		return bad("it has no index")
	}
	digits, ok := strings.CutPrefix(lines[0], "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || index < 0 || strconv.FormatInt(index, 10) != digits {
		return bad("it has no index")
	}
	p.Index = index
	for _, line := range lines[1:] {
		h, ok := decode(line)
		if !ok || len(h) != tlog.HashSize {
			return bad("a line is not a hash in base64")
		}
		p.Hashes = append(p.Hashes, tlog.Hash(h))
	}
	return p, nil
}

// Verify says whether the log whose keys these are has the proof's leaf, and returns it
// and the checkpoint that it is proven by.
func (p *Proof) Verify(keys Keys) (Leaf, Checkpoint, error) {
	if len(p.Leaf) == 0 {
		return Leaf{}, Checkpoint{}, errors.New("the proof does not have the event's bytes, so it proves only that something is in the log")
	}
	c, err := OpenCheckpoint(p.Checkpoint, keys)
	if err != nil {
		return Leaf{}, Checkpoint{}, err
	}
	if p.Index >= c.Size {
		return Leaf{}, Checkpoint{}, fmt.Errorf("the proof is of event %d, and its checkpoint of the first %d only", p.Index, c.Size)
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, tlog.RecordHash(p.Leaf)); err != nil {
		return Leaf{}, Checkpoint{}, fmt.Errorf("the log does not have this event at %d: its hash and the proof's do not give the checkpoint's root", p.Index)
	}
	leaf, err := ParseLeaf(p.Leaf)
	return leaf, c, err
}
