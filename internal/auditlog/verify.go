package auditlog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Source is a log to verify: a server's, or a database's.
type Source interface {
	// Latest is the newest checkpoint, signed; nil when there is none.
	Latest(ctx context.Context) ([]byte, error)
	// Checkpoints are up to limit of the signed checkpoints that are kept, of sizes above
	// one, the smallest first.
	Checkpoints(ctx context.Context, above int64, limit int) ([][]byte, error)
	// Entries are the bytes of n leaves from one on; empty for those that were removed.
	Entries(ctx context.Context, from int64, n int) ([][]byte, error)
	// Hashes are the stored hashes of n leaves from one on, or fewer when they are not there.
	Hashes(ctx context.Context, from int64, n int) ([]tlog.Hash, error)
}

// Verification is what is checked.
type Verification struct {
	Source Source
	Keys   Keys
	Saved  []byte                  // a signed checkpoint from before; nil: none
	Tell   func(done, total int64) // progress; nil: nobody asks
}

// Finding is one thing that is not as it was signed.
type Finding struct {
	First, Last int64 // the leaves
	EventID     string
	Text        string
}

// Report is what was found.
type Report struct {
	Checkpoint Checkpoint // the newest
	Signed     []byte
	Removed    int64     // events that retention removed, on record
	Findings   []Finding // the first by their leaves; none: the log is whole
	More       int64     // findings beyond these
}

const (
	readAtOnce   = 16 * TileWidth
	maxFindings  = 100
	maxCompared  = 64 // leaves that are looked at for having changed places
	checkpointsN = 1000
)

// Verify rebuilds the tree from the log's events and compares: every event with its
// stored hash, the hashes with every signed checkpoint that is kept and with the saved
// one, and what is missing with the signed records of removals. An error says that it
// could not be verified; what is wrong with the log is in the report.
func (v Verification) Verify(ctx context.Context) (*Report, error) {
	r := &run{Verification: v, report: &Report{}}
	signed, err := v.Source.Latest(ctx)
	if err != nil {
		return nil, err
	}
	var saved *Checkpoint
	if v.Saved != nil {
		c, err := OpenCheckpoint(v.Saved, v.Keys)
		if err != nil {
			return nil, fmt.Errorf("the saved %w; is it of this log, and are its keys those that you know?", err)
		}
		saved = &c
	}
	if signed == nil {
		if saved != nil && saved.Size > 0 {
			r.find(Finding{First: 0, Last: saved.Size - 1, Text: fmt.Sprintf("cut off: the saved checkpoint has %d events, the log none", saved.Size)})
		}
		return r.report, nil
	}
	latest, err := OpenCheckpoint(signed, v.Keys)
	if err != nil {
		size := int64(0)
		if c, err := ParseCheckpoint(string(signed)); err == nil {
			size = c.Size
		}
		r.find(Finding{First: 0, Last: size - 1, Text: fmt.Sprintf("the newest checkpoint, of %d events, is not signed by a key of the log", size)})
		return r.report, nil
	}
	r.report.Checkpoint, r.report.Signed = latest, signed
	if saved != nil {
		if saved.Origin != latest.Origin {
			return nil, fmt.Errorf("the saved checkpoint is of the log %q, and this log is %q", saved.Origin, latest.Origin)
		}
		if saved.Size > latest.Size {
			r.find(Finding{First: latest.Size, Last: saved.Size - 1, Text: fmt.Sprintf("cut off: the saved checkpoint has %d events, the log %d", saved.Size, latest.Size)})
		}
		r.marks = append(r.marks, mark{*saved, "the saved checkpoint"})
	}
	if err := r.leaves(ctx, latest); err != nil {
		return nil, err
	}
	r.compare()
	if err := r.explain(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(r.report.Findings, func(a, b Finding) int { return cmp.Compare(a.First, b.First) })
	return r.report, nil
}

// run is one verification.
type run struct {
	Verification

	report *Report
	marks  []mark // roots that are to come, besides the kept checkpoints
	good   int64  // the largest size whose root was as signed
	broken bool   // a root was not as signed

	frontier frontier
	changed  []change
	missing  []Range
	removals []Range
}

type mark struct {
	Checkpoint

	name string
}

// change is a leaf whose event does not give its hash.
type change struct {
	leaf  int64
	want  tlog.Hash
	bytes []byte
}

func (r *run) find(f Finding) {
	if len(r.report.Findings) == maxFindings {
		r.report.More++
		return
	}
	r.report.Findings = append(r.report.Findings, f)
}

// leaves goes through the leaves up to the newest checkpoint.
func (r *run) leaves(ctx context.Context, latest Checkpoint) error {
	var kept []mark
	keptAbove := int64(0)
	next := func(size int64) (*mark, error) { // the kept checkpoint of a size
		for len(kept) == 0 || kept[0].Size < size {
			if len(kept) > 0 {
				kept = kept[1:]
				continue
			}
			if keptAbove >= size {
				return nil, nil
			}
			list, err := r.Source.Checkpoints(ctx, max(keptAbove, size-1), checkpointsN)
			if err != nil {
				return nil, err
			}
			keptAbove = latest.Size
			for _, signed := range list {
				c, err := OpenCheckpoint(signed, r.Keys)
				if err != nil {
					claimed, _ := ParseCheckpoint(string(signed))
					r.find(Finding{First: 0, Last: claimed.Size - 1, Text: fmt.Sprintf("a kept checkpoint of %d events is not signed by a key of the log", claimed.Size)})
					continue
				}
				kept = append(kept, mark{c, "the checkpoint"})
			}
			if len(list) == checkpointsN && len(kept) > 0 {
				keptAbove = kept[len(kept)-1].Size
			}
		}
		if kept[0].Size == size {
			return &kept[0], nil
		}
		return nil, nil
	}
	for from := int64(0); from < latest.Size; {
		n := int(min(readAtOnce, latest.Size-from))
		entries, err := r.Source.Entries(ctx, from, n)
		if err != nil {
			return err
		}
		hashes, err := r.Source.Hashes(ctx, from, n)
		if err != nil {
			return err
		}
		if len(entries) != n {
			return errors.New("the log does not say what its events are")
		}
		for i := range n {
			leaf := from + int64(i)
			if i >= len(hashes) {
				r.find(Finding{First: leaf, Last: latest.Size - 1, Text: fmt.Sprintf("cut off: the newest checkpoint has %d events, and the hashes end before", latest.Size)})
				return nil
			}
			r.leaf(leaf, entries[i], hashes[i])
			if err := r.frontier.append(hashes[i]); err != nil {
				return err
			}
			if err := r.roots(leaf+1, latest, next); err != nil {
				return err
			}
		}
		from += int64(n)
		if r.Tell != nil {
			r.Tell(from, latest.Size)
		}
	}
	return nil
}

// leaf compares one event with its stored hash.
func (r *run) leaf(leaf int64, entry []byte, want tlog.Hash) {
	if len(entry) == 0 {
		if last := len(r.missing) - 1; last >= 0 && r.missing[last].Last == leaf-1 {
			r.missing[last].Last = leaf
		} else {
			r.missing = append(r.missing, Range{leaf, leaf})
		}
		return
	}
	if tlog.RecordHash(entry) != want {
		if len(r.changed) < maxCompared {
			r.changed = append(r.changed, change{leaf, want, bytes.Clone(entry)})
		} else {
			r.find(changedFinding(leaf, entry))
		}
		return
	}
	r.removal(leaf, entry)
}

// roots compares the root at a size with those that were signed.
func (r *run) roots(size int64, latest Checkpoint, next func(int64) (*mark, error)) error {
	if r.broken {
		return nil // every later root differs, too
	}
	kept, err := next(size)
	if err != nil {
		return err
	}
	marks := make([]mark, 0, 3)
	if kept != nil {
		marks = append(marks, *kept)
	}
	for _, m := range append(r.marks, mark{latest, "the newest checkpoint"}) {
		if m.Size == size {
			marks = append(marks, m)
		}
	}
	if len(marks) == 0 {
		return nil
	}
	root, err := r.frontier.root()
	if err != nil {
		return err
	}
	for _, m := range marks {
		if root == m.Root {
			continue
		}
		r.broken = true
		r.find(Finding{First: r.good, Last: size - 1, Text: fmt.Sprintf(
			"rewritten: these events and their stored hashes do not give the root that %s of %d events was signed with", m.name, size)})
		return nil
	}
	r.good = size
	return nil
}

// compare says of each changed leaf whether it was edited, or has changed places with
// another.
func (r *run) compare() {
	done := map[int64]bool{}
	for i, c := range r.changed {
		if done[c.leaf] {
			continue
		}
		swapped := false
		for _, other := range r.changed[i+1:] {
			if !done[other.leaf] && isOf(c.bytes, other.want, other.bytes) && isOf(other.bytes, c.want, c.bytes) {
				done[other.leaf], swapped = true, true
				r.find(Finding{First: c.leaf, Last: other.leaf, EventID: idOf(c.bytes), Text: fmt.Sprintf("reordered: the events at %d and %d have changed places", c.leaf, other.leaf)})
				break
			}
		}
		if !swapped {
			r.find(changedFinding(c.leaf, c.bytes))
		}
	}
}

// isOf says whether an entry is the event that a hash is of, by its own salt or by that
// of the entry that is there now.
func isOf(entry []byte, hash tlog.Hash, there []byte) bool {
	if tlog.RecordHash(entry) == hash {
		return true
	}
	event, err := ParseLeaf(entry)
	if err != nil {
		return false
	}
	present, err := ParseLeaf(there)
	if err != nil {
		return false
	}
	event.Salt = present.Salt
	return tlog.RecordHash(event.Bytes()) == hash
}

func changedFinding(leaf int64, entry []byte) Finding {
	return Finding{First: leaf, Last: leaf, EventID: idOf(entry), Text: "edited: the event is not the one that was recorded"}
}

func idOf(entry []byte) string {
	l, err := ParseLeaf(entry)
	if err != nil {
		return ""
	}
	return l.ID
}

// String is the finding for a person.
func (f Finding) String() string {
	var b strings.Builder
	if f.First >= f.Last {
		fmt.Fprintf(&b, "event %d", f.First)
	} else {
		fmt.Fprintf(&b, "events %d to %d", f.First, f.Last)
	}
	if f.EventID != "" {
		fmt.Fprintf(&b, " (%s)", f.EventID)
	}
	return b.String() + ": " + f.Text
}
