package auditlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Removal says which leaves' events a retention removed. It is in the details of an event
// of the log, signed by the log's key: who owns the database alone cannot pass a deletion
// off as retention.
type Removal struct {
	Before time.Time // to the second: what was removed happened before
	Leaves []Range
}

// Range is the leaves from First to Last, both included.
type Range struct{ First, Last int64 }

// FormatRanges writes ranges as "0-999,1004".
func FormatRanges(ranges []Range) string {
	var b strings.Builder
	for i, r := range ranges {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(r.First, 10))
		if r.Last > r.First {
			b.WriteString("-" + strconv.FormatInt(r.Last, 10))
		}
	}
	return b.String()
}

// ParseRanges reads what FormatRanges writes.
func ParseRanges(text string) ([]Range, error) {
	var ranges []Range
	for part := range strings.SplitSeq(text, ",") {
		first, last, many := strings.Cut(part, "-")
		if !many {
			last = first
		}
		from, err := strconv.ParseInt(first, 10, 64)
		to, err2 := strconv.ParseInt(last, 10, 64)
		if err := errors.Join(err, err2); err != nil || from < 0 || to < from {
			return nil, fmt.Errorf("%q is not ranges of leaves", text)
		}
		ranges = append(ranges, Range{from, to})
	}
	return ranges, nil
}

// Text is what is signed. It cannot be a checkpoint's: that begins with a log's name,
// and is followed by a size.
func (r Removal) Text() []byte {
	return []byte("tollgate-audit-removal-v1\n\n" + r.Before.UTC().Format(time.RFC3339) + "\n" + FormatRanges(r.Leaves) + "\n")
}

// Verify checks a signature, as base64, of one of the log's keys.
func (r Removal) Verify(signature string, keys Keys) error {
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err == nil {
		for _, key := range keys {
			if key.Verify(r.Text(), raw) {
				return nil
			}
		}
	}
	return errors.New("the record of a removal is not signed by a key of the log")
}

// The details of an event of retention, beside "deleted" and "before".
const (
	RetentionAction   = "tollgate.audit_retention"
	DetailBefore      = "before"
	DetailLeaves      = "leaves" // and leaves.2, leaves.3 … where one value is too short
	DetailSignature   = "signature"
	detailValueLength = 512
)

// Details are the removal's in its event.
func (r Removal) Details(signature []byte) map[string]string {
	details := map[string]string{
		DetailBefore:    r.Before.UTC().Format(time.RFC3339),
		DetailSignature: base64.StdEncoding.EncodeToString(signature),
	}
	name, part := DetailLeaves, ""
	for _, one := range r.Leaves {
		text := FormatRanges([]Range{one})
		if len(part)+1+len(text) > detailValueLength {
			details[name], part = part, ""
			name = fmt.Sprintf("%s.%d", DetailLeaves, len(details)-1)
		}
		if part != "" {
			part += ","
		}
		part += text
	}
	if part != "" {
		details[name] = part
	}
	return details
}

// ReadRemoval reads an event's details; ok is false when they name no leaves.
func ReadRemoval(details map[string]string) (r Removal, signature string, ok bool, err error) {
	if details[DetailLeaves] == "" {
		return Removal{}, "", false, nil
	}
	if r.Before, err = time.Parse(time.RFC3339, details[DetailBefore]); err != nil {
		return Removal{}, "", false, fmt.Errorf("the record of a removal: %w", err)
	}
	for i, name := 1, DetailLeaves; details[name] != ""; name = fmt.Sprintf("%s.%d", DetailLeaves, i) {
		ranges, err := ParseRanges(details[name])
		if err != nil {
			return Removal{}, "", false, fmt.Errorf("the record of a removal: %w", err)
		}
		r.Leaves = append(r.Leaves, ranges...)
		i++
	}
	return r, details[DetailSignature], true, nil
}
