package auditlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint says which events the log has: the first Size, whose tree has this root
// (https://c2sp.org/tlog-checkpoint).
type Checkpoint struct {
	Origin string // the log's name, and its key's: a URL without its scheme
	Size   int64
	Root   tlog.Hash
}

// begunLayout is how the name of a tree that was started over ends.
const begunLayout = "/20060102T150405Z"

// RestartedOrigin names the tree that a log is started over with at a time.
func RestartedOrigin(origin string, at time.Time) string {
	return origin + at.UTC().Format(begunLayout)
}

// Begun is before which time, to the second, events were in an older tree, as the name
// says; zero for the first tree of a log.
func (c Checkpoint) Begun() time.Time {
	at, err := time.Parse(begunLayout, c.Origin[max(0, len(c.Origin)-len(begunLayout)):])
	if err != nil {
		return time.Time{}
	}
	return at.Add(time.Second)
}

// What is read of others is bounded.
const (
	maxSize       = 1 << 62  // events: tlog's search for a power of two does not end beyond
	maxCheckpoint = 64 << 10 // bytes, with its signatures
	maxProof      = 2 * maxCheckpoint
)

// Text is what is signed.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint reads a checkpoint's text, or a signed one's without looking at the
// signatures.
func ParseCheckpoint(text string) (Checkpoint, error) {
	bad := func(what string) (Checkpoint, error) {
		return Checkpoint{}, fmt.Errorf("not a checkpoint (https://c2sp.org/tlog-checkpoint): %s", what)
	}
	body, _, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	if len(lines) != 3 || lines[0] == "" {
		return bad("it must have three lines: origin, size, root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || size > maxSize || strconv.FormatInt(size, 10) != lines[1] {
		return bad("its second line is not a size")
	}
	root, ok := decode(lines[2])
	if !ok || len(root) != tlog.HashSize {
		return bad("its third line is not the hash of a root in base64")
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: tlog.Hash(root)}, nil
}

// OpenCheckpoint reads a signed checkpoint (https://c2sp.org/signed-note) of the log
// whose keys these are, and checks the log's signature. Signatures of others, such as
// witnesses, are no obstacle.
func OpenCheckpoint(signed []byte, keys Keys) (Checkpoint, error) {
	if len(keys) == 0 {
		return Checkpoint{}, errors.New("no key of the log to check the checkpoint's signature with")
	}
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("checkpoint: it has more than %d bytes", maxCheckpoint)
	}
	n, err := note.Open(signed, note.VerifierList(keys...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	for line := range strings.Lines(string(signed[len(n.Text)+1:])) {
		if _, ok := decode(strings.TrimSuffix(line[strings.LastIndexByte(line, ' ')+1:], "\n")); !ok {
			return Checkpoint{}, errors.New("checkpoint: a signature is not in the one spelling that base64 has")
		}
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Text() != n.Text {
		return Checkpoint{}, errors.New("checkpoint: more was signed than a checkpoint is")
	}
	for _, signature := range n.Sigs {
		if signature.Name == c.Origin {
			return c, nil
		}
	}
	return Checkpoint{}, fmt.Errorf("checkpoint: of the log %q, whose key is not among those given", c.Origin)
}

// Keys are the public keys of one log.
type Keys []note.Verifier

// ParseKeys reads keys in the form name+hash+key, one in each text.
func ParseKeys(texts ...string) (Keys, error) {
	keys := make(Keys, len(texts))
	for i, text := range texts {
		v, err := note.NewVerifier(strings.TrimSpace(text))
		if err == nil && strings.ContainsAny(strings.TrimSpace(text), "\r\n") {
			err = errors.New("it has a line break in it")
		}
		if err != nil {
			return nil, fmt.Errorf("%q is not a log's key, NAME+HASH+KEY as GET /v1/audit/keys gives it: %w", text, err)
		}
		keys[i] = v
	}
	return keys, nil
}

// decode reads base64 in the one spelling that it has (RFC 4648 §4). encoding/base64 reads
// over line breaks.
func decode(text string) ([]byte, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil && !strings.ContainsAny(text, "\r\n")
}
