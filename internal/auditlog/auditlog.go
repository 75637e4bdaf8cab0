// Package auditlog has the formats of the verifiable audit log, for the server that
// keeps the log and for those who check it: what is hashed of an event, checkpoints,
// proofs, and the paths of tiles. The tree is RFC 6962's, by golang.org/x/mod/sumdb/tlog.
package auditlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// SaltSize is how many random bytes make a leaf's hash say nothing about its event to
// who does not have them.
const SaltSize = 16

// MaxLeaf is how many bytes a leaf has at most: half of what an entry may have, so that a
// bundle of 256 is at most 8 MiB.
const MaxLeaf = 32 << 10

// leafHeader begins every leaf, so that its hash is of nothing else.
const leafHeader = "tollgate-audit-v1\n"

// timeLayout is how a leaf has a time: UTC, to the microsecond, always as long.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Leaf is an event of the log as the tree has it.
type Leaf struct {
	ID         string            `json:"id"`
	Time       time.Time         `json:"time"` // UTC, to the microsecond
	Actor      Actor             `json:"actor"`
	Action     string            `json:"action"`
	Outcome    string            `json:"outcome"` // "success", "denied", "failure"
	Reason     string            `json:"reason"`
	Resource   string            `json:"resource"`
	IP         string            `json:"ip"`
	UserAgent  string            `json:"userAgent"`
	RequestID  string            `json:"requestId"`
	Details    map[string]string `json:"details"`
	RecordedBy string            `json:"recordedBy"` // user id of the service that reported it
	Salt       []byte            `json:"salt"`
}

// Actor is who did it.
type Actor struct {
	UserID    string `json:"userId"`
	Username  string `json:"username"`
	SessionID string `json:"sessionId"`
	APIKeyID  string `json:"apiKeyId"`
}

// Bytes are what the tree hashes: a line with the version, then the event and its salt as
// canonical JSON (RFC 8785), every member present. Where they would be more than MaxLeaf
// bytes, the hash of the details' JSON stands for the details.
func (l *Leaf) Bytes() []byte { return l.Append(make([]byte, 0, 640)) }

// Append appends the leaf's bytes.
func (l *Leaf) Append(b []byte) []byte {
	begin := len(b)
	b, details := l.append(b)
	if len(b)-begin > MaxLeaf {
		sum := sha256.Sum256(details)
		fits := *l
		fits.Details = map[string]string{"sha256": hex.EncodeToString(sum[:])}
		b, _ = fits.append(b[:begin]) // once: texts of others may be as long as they like
	}
	return b
}

// append appends the leaf with its details, however long, and returns these apart, too.
func (l *Leaf) append(b []byte) (all, details []byte) {
	member := func(name, value string) {
		b = append(b, name...)
		b = appendString(b, value)
	}
	b = append(b, leafHeader...)
	member(`{"action":`, l.Action)
	member(`,"actor":{"apiKeyId":`, l.Actor.APIKeyID)
	member(`,"sessionId":`, l.Actor.SessionID)
	member(`,"userId":`, l.Actor.UserID)
	member(`,"username":`, l.Actor.Username)
	b = append(b, `},"details":`...)
	start := len(b)
	b = append(b, '{')
	for i, key := range slices.SortedFunc(maps.Keys(l.Details), byUTF16) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, key)
		b = append(b, ':')
		b = appendString(b, l.Details[key])
	}
	b = append(b, '}')
	end := len(b)
	member(`,"id":`, l.ID)
	member(`,"ip":`, l.IP)
	member(`,"outcome":`, l.Outcome)
	member(`,"reason":`, l.Reason)
	member(`,"recordedBy":`, l.RecordedBy)
	member(`,"requestId":`, l.RequestID)
	member(`,"resource":`, l.Resource)
	b = append(b, `,"salt":"`...)
	b = base64.StdEncoding.AppendEncode(b, l.Salt)
	b = append(b, `","time":"`...)
	b = l.Time.UTC().AppendFormat(b, timeLayout)
	b = append(b, '"')
	member(`,"userAgent":`, l.UserAgent)
	b = append(b, '}')
	return b, b[start:end]
}

// ParseLeaf reads a leaf. Only the bytes that Append makes are one.
func ParseLeaf(b []byte) (Leaf, error) {
	text, ok := bytes.CutPrefix(b, []byte(leafHeader))
	if !ok {
		return Leaf{}, fmt.Errorf("not a leaf of an audit log: it does not begin with %q", strings.TrimSpace(leafHeader))
	}
	if len(b) > MaxLeaf {
		return Leaf{}, fmt.Errorf("not a leaf of an audit log: it has more than %d bytes", MaxLeaf)
	}
	var l Leaf
	if err := json.Unmarshal(text, &l); err != nil {
		return Leaf{}, fmt.Errorf("not a leaf of an audit log: %w", err)
	}
	// Not every language's times have a year 0.
	if l.Time.Year() < 1 || !bytes.Equal(l.Bytes(), b) {
		return Leaf{}, errors.New("not a leaf of an audit log: not in canonical form (RFC 8785)")
	}
	return l, nil
}

// byUTF16 orders as RFC 8785 §3.2.3 does. It differs from the order of bytes only where a
// text has a character above U+FFFF.
func byUTF16(a, b string) int {
	if !astral(a) && !astral(b) {
		return strings.Compare(a, b)
	}
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}

// astral says whether a text has a character of four bytes.
func astral(s string) bool {
	for i := range len(s) {
		if s[i] >= 0xF0 {
			return true
		}
	}
	return false
}

const hexDigits = "0123456789abcdef"

// appendString appends a JSON string as RFC 8785 §3.2.2.2 has it.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\t':
			b = append(b, '\\', 't')
		case '\n':
			b = append(b, '\\', 'n')
		case '\f':
			b = append(b, '\\', 'f')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
		}
	}
	return append(append(b, s[from:]...), '"')
}
