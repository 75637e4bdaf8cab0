package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

const origin = "tollgate.example/audit"

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newTree(t *testing.T, db *database.DB) *tree.Tree {
	t.Helper()
	master, err := seal.New(make([]byte, seal.KeySize))
	backendtest.Must(t, err)
	grown := tree.New(db, clock.NewFake(start).Clock(), master, origin)
	backendtest.Must(t, grown.Ensure(t.Context()))
	return grown
}

// grow appends n leaves.
func grow(t *testing.T, db *database.DB, grown *tree.Tree, n int) {
	t.Helper()
	head, _, err := grown.Head(t.Context())
	backendtest.Must(t, err)
	records := make([]tree.Record, n)
	for i := range records {
		id := fmt.Sprint("event-", head.Size+int64(i))
		records[i] = tree.Record{EventID: id, Salt: []byte("0123456789abcdef"), Leaf: []byte(id)}
	}
	backendtest.Must(t, db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
		ok, err := grown.Append(ctx, tx, head, records, head)
		if err == nil && !ok {
			err = errors.New("somebody else appends")
		}
		return err
	}))
}

// cosigner is a witness as https://c2sp.org/tlog-witness has it, by transparency-dev's
// verifier.
type cosigner struct {
	size    int64
	root    []byte
	keys    auditlog.Keys
	private ed25519.PrivateKey
	asked   int
	lies    func(line string) string
}

const name = "witness.example/w1"

func newCosigner(t *testing.T, grown *tree.Tree) (*cosigner, *Witness) {
	t.Helper()
	list, err := grown.PublicKeys(t.Context())
	backendtest.Must(t, err)
	keys, err := auditlog.ParseKeys(list[0].Text)
	backendtest.Must(t, err)
	public, private, err := ed25519.GenerateKey(nil)
	backendtest.Must(t, err)
	c := &cosigner{keys: keys, private: private, lies: func(line string) string { return line }}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	w, err := Parse(server.URL + "/submit#" + vkey(public))
	backendtest.Must(t, err)
	return c, w
}

func vkey(public ed25519.PublicKey) string {
	key := append([]byte{cosignatureType}, public...)
	return fmt.Sprintf("%s+%08x+%s", name, keyID(public), base64.StdEncoding.EncodeToString(key))
}

func keyID(public ed25519.PublicKey) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n\x04"), public...))
	return binary.BigEndian.Uint32(sum[:])
}

func (c *cosigner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.asked++
	body, _ := io.ReadAll(r.Body)
	head, signed, ok := strings.Cut(string(body), "\n\n")
	if !ok || r.Method != http.MethodPost || r.URL.Path != "/submit/add-checkpoint" {
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	checkpoint, err := auditlog.OpenCheckpoint([]byte(signed), c.keys)
	if err != nil {
		http.Error(w, "", http.StatusForbidden)
		return
	}
	lines := strings.Split(head, "\n")
	var old int64
	fmt.Sscanf(lines[0], "old %d", &old)
	var hashes [][]byte
	for _, line := range lines[1:] {
		h, _ := base64.StdEncoding.DecodeString(line)
		hashes = append(hashes, h)
	}
	if old != c.size {
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", c.size)
		return
	}
	if old > 0 && proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(checkpoint.Size), hashes, c.root, checkpoint.Root[:]) != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	c.size, c.root = checkpoint.Size, checkpoint.Root[:]
	text := checkpoint.Text()
	at := start.Unix()
	raw := binary.BigEndian.AppendUint32(nil, keyID(c.private.Public().(ed25519.PublicKey)))
	raw = binary.BigEndian.AppendUint64(raw, uint64(at))
	raw = append(raw, ed25519.Sign(c.private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))...)
	fmt.Fprint(w, "— another.example AAAA\n", c.lies("— "+name+" "+base64.StdEncoding.EncodeToString(raw)+"\n"))
}

func TestCosign(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		grown := newTree(t, db)
		c, w := newCosigner(t, grown)
		k, err := New(t.Context(), grown, "", []*Witness{w}, slog.New(slog.DiscardHandler))
		backendtest.Must(t, err)
		backendtest.Must(t, k.Cosign(t.Context(), w)) // there is nothing yet
		backendtest.Equal(t, c.asked, 0, "requests")
		for i, n := range []int{3, 300, 1} {
			grow(t, db, grown, n)
			backendtest.Must(t, k.Cosign(t.Context(), w))
			backendtest.Equal(t, c.asked, i+1, "requests")
			backendtest.Must(t, k.Cosign(t.Context(), w)) // it has been cosigned
			backendtest.Equal(t, c.asked, i+1, "requests")
		}
		latest, err := grown.Latest(t.Context())
		backendtest.Must(t, err)
		if strings.Count(string(latest.Note), "\n— "+name+" ") != 1 {
			t.Errorf("the checkpoint is %s", latest.Note)
		}
		_, err = auditlog.OpenCheckpoint(latest.Note, c.keys) // another's signature is no obstacle
		backendtest.Must(t, err)

		// A new instance does not know how far the witness is, and asks.
		grow(t, db, grown, 5)
		_, again := newCosigner(t, grown)
		again.url, again.key, again.hash, again.size = w.url, w.key, w.hash, 2
		backendtest.Must(t, k.Cosign(t.Context(), again))
		grow(t, db, grown, 5) // and what was cosigned is gone on from
	})
}

func TestCosignRefused(t *testing.T) {
	t.Parallel()
	db := backendtest.SQLite(t)
	grown := newTree(t, db)
	grow(t, db, grown, 3)
	k, err := New(t.Context(), grown, "", nil, slog.New(slog.DiscardHandler))
	backendtest.Must(t, err)
	for reason, c := range map[string]struct {
		witness func(*cosigner)
		forked  bool
	}{
		"it has seen more":         {func(c *cosigner) { c.size = 4 }, true},
		"it has seen another":      {func(c *cosigner) { c.size, c.root = 2, make([]byte, 32) }, true},
		"another root of its size": {func(c *cosigner) { c.size, c.root = 3, make([]byte, 32) }, true},
		"it signs something else": {func(c *cosigner) {
			c.lies = func(line string) string { return line[:len(line)-10] + "AAAAAAAA=\n" }
		}, false},
		"it signs nothing":     {func(c *cosigner) { c.lies = func(string) string { return "" } }, false},
		"it does not know us":  {func(c *cosigner) { c.keys = nil }, false},
		"it signs in our name": {func(c *cosigner) { c.lies = func(line string) string { return strings.Replace(line, name, origin, 1) } }, false},
	} {
		cosigner, w := newCosigner(t, grown)
		c.witness(cosigner)
		if err := k.Cosign(t.Context(), w); err == nil || errors.Is(err, ErrForked) != c.forked {
			t.Errorf("%s: %v", reason, err)
		}
	}
	latest, err := grown.Latest(t.Context())
	backendtest.Must(t, err)
	if strings.Contains(string(latest.Note), name) {
		t.Errorf("the checkpoint is %s", latest.Note)
	}
}

// TestCosignAfterMistake checks that a witness which once said that it had seen more than
// there is, because it was mistaken or set back, is asked again.
func TestCosignAfterMistake(t *testing.T) {
	t.Parallel()
	db := backendtest.SQLite(t)
	grown := newTree(t, db)
	grow(t, db, grown, 3)
	cosigner, w := newCosigner(t, grown)
	k, err := New(t.Context(), grown, "", nil, slog.New(slog.DiscardHandler))
	backendtest.Must(t, err)
	cosigner.size = 1 << 60
	for range 2 {
		if err := k.Cosign(t.Context(), w); !errors.Is(err, ErrForked) || !strings.Contains(err.Error(), "1152921504606846976") {
			t.Errorf("it has seen more: %v", err)
		}
	}
	cosigner.size = 0
	backendtest.Must(t, k.Cosign(t.Context(), w))
}

// TestCosignSpelling checks that a witness cannot spoil the checkpoint by a spelling of its
// signature that a signed note does not have: the log could not go on from it.
func TestCosignSpelling(t *testing.T) {
	t.Parallel()
	db := backendtest.SQLite(t)
	grown := newTree(t, db)
	grow(t, db, grown, 3)
	cosigner, w := newCosigner(t, grown)
	cosigner.lies = func(line string) string { return line[:len(line)-9] + "\r" + line[len(line)-9:] }
	k, err := New(t.Context(), grown, "", nil, slog.New(slog.DiscardHandler))
	backendtest.Must(t, err)
	backendtest.Must(t, k.Cosign(t.Context(), w))
	latest, err := grown.Latest(t.Context())
	backendtest.Must(t, err)
	_, err = auditlog.OpenCheckpoint(latest.Note, cosigner.keys)
	backendtest.Must(t, err)
	grow(t, db, grown, 1)
}

func TestParse(t *testing.T) {
	t.Parallel()
	public, _, err := ed25519.GenerateKey(nil)
	backendtest.Must(t, err)
	good := "https://w.example/1#" + vkey(public)
	_, err = Parse(good)
	backendtest.Must(t, err)
	for _, text := range []string{
		"", "https://w.example", "w.example#" + vkey(public), "ftp://w.example#" + vkey(public), "https://w.example#name", "https://u:p@w.example#" + vkey(public),
		good[:len(good)-8], strings.Replace(good, "+", "+0", 1), strings.Replace(good, name, "other", 1),
	} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q: parsed", text)
		}
	}
}

// TestFile checks that the file has the newest checkpoint, and that a server that finds
// one there signs only what continues it.
func TestFile(t *testing.T) {
	t.Parallel()
	backendtest.Databases(t, func(t *testing.T, db *database.DB) {
		path := filepath.Join(t.TempDir(), "checkpoint")
		grown := newTree(t, db)
		k, err := New(t.Context(), grown, path, nil, slog.New(slog.DiscardHandler))
		backendtest.Must(t, err)
		backendtest.Must(t, k.Write(t.Context()))
		if _, err := os.Stat(path); err == nil {
			t.Error("there is a file before there is a checkpoint")
		}
		var older []byte
		for _, n := range []int{3, 300} {
			grow(t, db, grown, n)
			backendtest.Must(t, k.Write(t.Context()))
			content, err := os.ReadFile(path)
			backendtest.Must(t, err)
			latest, err := grown.Latest(t.Context())
			backendtest.Must(t, err)
			backendtest.Equal(t, string(content), string(latest.Note), "the file")
			if older == nil {
				older = content
			}
		}
		restore := func() { // the older state of 3 events
			for _, statement := range []string{
				`DELETE FROM audit_checkpoints WHERE size > 3`, `DELETE FROM audit_leaves WHERE leaf > 2`, `UPDATE audit_head SET size = 3`,
				`DELETE FROM audit_tiles WHERE n > 0 OR level > 0`, `UPDATE audit_tiles SET data = substr(data, 1, 96)`,
			} {
				_, err := db.Exec(t.Context(), statement)
				backendtest.Must(t, err)
			}
		}
		restore()
		if err := k.Write(t.Context()); !errors.Is(err, tree.ErrForked) {
			t.Errorf("written over: %v", err)
		}
		again := newTree(t, db)
		_, err = New(t.Context(), again, path, nil, slog.New(slog.DiscardHandler))
		backendtest.Must(t, err)
		head, _, err := again.Head(t.Context())
		backendtest.Must(t, err)
		err = db.Write(t.Context(), func(ctx context.Context, tx *database.Tx) error {
			_, err := again.Append(ctx, tx, head, []tree.Record{{EventID: "x", Salt: []byte("x"), Leaf: []byte("x")}}, head)
			return err
		})
		if !errors.Is(err, tree.ErrForked) {
			t.Errorf("signed on top of an older state: %v", err)
		}
		backendtest.Must(t, os.WriteFile(path, bytes.Repeat([]byte("x"), maxAnswer+1), 0o600))
		if _, err := New(t.Context(), newTree(t, db), path, nil, nil); err == nil || !strings.Contains(err.Error(), "more than a checkpoint has") {
			t.Errorf("a file without a bound: %v", err)
		}
		if _, err := New(t.Context(), newTree(t, db), t.TempDir(), nil, nil); err == nil || !strings.Contains(err.Error(), "not a file") {
			t.Errorf("a folder: %v", err)
		}
		backendtest.Must(t, os.WriteFile(path, []byte(strings.Replace(string(older), "tollgate", "to11gate", 1)), 0o600))
		if _, err := New(t.Context(), newTree(t, db), path, nil, nil); err == nil || !strings.Contains(err.Error(), "not of this log") {
			t.Errorf("a checkpoint of another log: %v", err)
		}
	})
}
