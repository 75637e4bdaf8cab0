package auditlog

import (
	"bytes"
	"context"
)

// removal reads an entry that says what retention removed. One from before the tree was
// started over is of another tree: it is no fault, and explains nothing here.
func (r *run) removal(leaf int64, entry []byte) {
	if !bytes.HasPrefix(entry, []byte(leafHeader+`{"action":"`+RetentionAction+`"`)) {
		return
	}
	l, err := ParseLeaf(entry)
	if err != nil {
		return
	}
	removal, signature, ok, err := ReadRemoval(l.Details)
	if err == nil && ok {
		err = removal.Verify(signature, r.own())
	}
	if err != nil {
		if !l.Time.Before(r.report.Checkpoint.Begun()) {
			r.find(Finding{First: leaf, Last: leaf, EventID: l.ID, Text: "says that events were removed by retention, and is not signed by a key of the log"})
		}
		return
	}
	r.removals = append(r.removals, removal.Leaves...)
}

// own are the keys of the tree itself: leaves of an older tree, of another name, were other
// events.
func (r *run) own() (keys Keys) {
	for _, key := range r.Keys {
		if key.Name() == r.report.Checkpoint.Origin {
			keys = append(keys, key)
		}
	}
	return keys
}

// explain looks for the removals that missing events are on record by.
func (r *run) explain(ctx context.Context) error {
	names, _ := r.Source.(interface {
		EventID(ctx context.Context, leaf int64) (string, error)
	})
	removed := merge(r.removals)
	for _, m := range r.missing {
		for m.First <= m.Last {
			covered := covering(removed, m.First)
			if covered != nil {
				end := min(m.Last, covered.Last)
				r.report.Removed += end - m.First + 1
				m.First = end + 1
				continue
			}
			end := m.First
			for end < m.Last && covering(removed, end+1) == nil {
				end++
			}
			f := Finding{First: m.First, Last: end, Text: "deleted: no signed record of a removal has it"}
			if names != nil && len(r.report.Findings) < maxFindings {
				var err error
				if f.EventID, err = names.EventID(ctx, f.First); err != nil {
					return err
				}
			}
			r.find(f)
			m.First = end + 1
		}
	}
	return nil
}
