// Package tree keeps the audit log's Merkle tree (RFC 6962 §2.1) in the database: tiles of
// hashes, which event is which leaf, and signed checkpoints. It never deletes a hash and
// signs nothing that does not continue what it signed or saw before.
package tree

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// ErrForked says that the database's tree does not continue what was signed: somebody
// changed it behind the server's back, or restored an older state of it.
var ErrForked = errors.New("the audit log's tree in the database does not continue what was signed")

// Tree is the tree of one log. It is safe for concurrent use, by many instances too.
type Tree struct {
	db     *database.DB
	clock  clock.Clock
	master *seal.Master
	origin string // of a new log

	mu   sync.Mutex
	keys map[string]*key     // opened, by id
	seen auditlog.Checkpoint // the newest that this instance signed or continued
}

// New makes a Tree. origin names a new log: a URL without its scheme; a log that there is
// keeps its name.
func New(db *database.DB, clk clock.Clock, master *seal.Master, origin string) *Tree {
	return &Tree{db: db, clock: clk, master: master, origin: origin, keys: map[string]*key{}}
}

// Head is how far the tree is.
type Head struct {
	Size     int64 `db:"size"`
	Writer   int64 `db:"writer"`   // of the last event in the tree
	Position int64 `db:"position"` // of the last event in the tree
	Floor    int64 `db:"floor"`    // events at or below are in the tree, or are of no matter
}

// Record is an event to append.
type Record struct {
	EventID string
	Time    int64 // of the event, in Unix microseconds
	Salt    []byte
	Address string // see Address
	Leaf    []byte // what is hashed
}

// Signed is a checkpoint with its signatures.
type Signed struct {
	auditlog.Checkpoint

	Note []byte
	At   time.Time // when it was signed
}

// Head reads how far the tree is, and when its newest checkpoint was signed.
func (t *Tree) Head(ctx context.Context) (Head, time.Time, error) { return readHead(ctx, t.db) }

// Latest is the newest checkpoint; ErrNoRows when there is none yet.
func (t *Tree) Latest(ctx context.Context) (Signed, error) { return latestCheckpoint(ctx, t.db) }

// Checkpoints are up to limit checkpoints of sizes above one, the smallest first.
func (t *Tree) Checkpoints(ctx context.Context, above int64, limit int) ([]Signed, error) {
	return listCheckpoints(ctx, t.db, above, limit)
}

// Thin deletes checkpoints that are older than a day, but for the last of each hour.
func (t *Tree) Thin(ctx context.Context) error {
	return t.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		return thinCheckpoints(ctx, tx, t.clock.Now().Add(-24*time.Hour))
	})
}

// StartOver forgets the tree and its keys, so that the events that the log holds go into
// a new one, of a name of its own. Whoever saved a checkpoint sees that it is another log.
func (t *Tree) StartOver(ctx context.Context, tx *database.Tx) (name string, err error) {
	if err := waitHead(ctx, tx); err != nil {
		return "", err
	}
	if err := deleteTree(ctx, tx); err != nil {
		return "", err
	}
	name = auditlog.RestartedOrigin(t.origin, t.clock.Now())
	return name, t.makeKey(ctx, tx, name)
}

// Append appends records in a transaction, if the tree is still at head and nobody else
// appends at the moment, and signs a checkpoint of the new size. next is the head's place
// then. It is ErrForked when the tree is not what was signed.
func (t *Tree) Append(ctx context.Context, tx *database.Tx, head Head, records []Record, next Head) (ok bool, err error) {
	now, ok, err := lockHead(ctx, tx)
	if err != nil || !ok || now != head {
		return false, err
	}
	tiles := func(tile auditlog.Tile) ([]byte, error) { return readTile(ctx, tx, tile) }
	if err := t.check(ctx, tx, head.Size, auditlog.Hashes(tiles)); err != nil {
		return false, err
	}
	if len(records) == 0 {
		return true, updateHead(ctx, tx, next)
	}
	signer, err := t.signer(ctx, tx)
	if err != nil {
		return false, err
	}
	grown := newGrowth(head.Size, auditlog.Hashes(tiles))
	for i := range records {
		if err := grown.append(records[i].Leaf); err != nil {
			return false, err
		}
	}
	for _, tile := range tlog.NewTiles(auditlog.TileHeight, head.Size, grown.size) {
		data, err := tlog.ReadTileData(tile, grown)
		if err != nil {
			return false, fmt.Errorf("make tile %d/%d: %w", tile.L, tile.N, err)
		}
		if err := writeTile(ctx, tx, tile, data); err != nil {
			return false, err
		}
	}
	if err := insertLeaves(ctx, tx, head.Size, records); err != nil {
		return false, err
	}
	root, err := tlog.TreeHash(grown.size, grown)
	if err != nil {
		return false, fmt.Errorf("hash the tree: %w", err)
	}
	c := auditlog.Checkpoint{Origin: signer.name, Size: grown.size, Root: root}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		return false, fmt.Errorf("sign a checkpoint: %w", err)
	}
	if err := insertCheckpoint(ctx, tx, Signed{c, signed, t.clock.Now()}); err != nil {
		return false, err
	}
	next.Size = grown.size
	return true, updateHead(ctx, tx, next)
}

// check says whether the tree at a size is what was signed, and continues what this
// instance has seen.
func (t *Tree) check(ctx context.Context, q database.Queries, size int64, hashes tlog.HashReader) error {
	last, err := latestCheckpoint(ctx, q)
	if errors.Is(err, database.ErrNoRows) {
		if size == 0 && t.Seen().Size == 0 {
			return nil
		}
		return fmt.Errorf("%w: it has no checkpoint", ErrForked)
	}
	if err != nil {
		return err
	}
	keys, err := t.verifiers(ctx, q)
	if err != nil {
		return err
	}
	signed, err := auditlog.OpenCheckpoint(last.Note, keys)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForked, err)
	}
	seen := t.Seen()
	if signed.Size != size || signed.Size < seen.Size {
		return fmt.Errorf("%w: it has %d events, its newest checkpoint is of %d, and there was one of %d", ErrForked, size, signed.Size, seen.Size)
	}
	root, err := tlog.TreeHash(size, hashes)
	if err != nil || root != signed.Root {
		return fmt.Errorf("%w: its hashes do not give the root that was signed for its %d events", ErrForked, size)
	}
	if err := continues(seen, signed, hashes); err != nil {
		return err
	}
	t.saw(signed)
	return nil
}

// continues says whether a later checkpoint's tree begins with an earlier one's.
func continues(earlier, later auditlog.Checkpoint, hashes tlog.HashReader) error {
	if earlier.Size == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(later.Size, earlier.Size, hashes)
	if err == nil {
		err = tlog.CheckTree(proof, later.Size, later.Root, earlier.Size, earlier.Root)
	}
	if err != nil {
		return fmt.Errorf("%w: its first %d events are no longer those of the checkpoint that this server has seen", ErrForked, earlier.Size)
	}
	return nil
}

// Seen is the newest checkpoint that this instance continued.
func (t *Tree) Seen() auditlog.Checkpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen
}

func (t *Tree) saw(c auditlog.Checkpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Size > t.seen.Size {
		t.seen = c
	}
}

// growth is a tree that grows in memory on top of a stored one.
type growth struct {
	size   int64
	stored tlog.HashReader
	added  map[int64]tlog.Hash // by storage index
}

func newGrowth(size int64, stored tlog.HashReader) *growth {
	return &growth{size, stored, map[int64]tlog.Hash{}}
}

func (g *growth) append(leaf []byte) error {
	hashes, err := tlog.StoredHashes(g.size, leaf, g)
	if err != nil {
		return fmt.Errorf("hash leaf %d: %w", g.size, err)
	}
	first := tlog.StoredHashIndex(0, g.size)
	for i, h := range hashes {
		g.added[first+int64(i)] = h
	}
	g.size++
	return nil
}

// ReadHashes implements tlog.HashReader.
func (g *growth) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	var stored []int64
	for i, index := range indexes {
		h, ok := g.added[index]
		if hashes[i] = h; !ok {
			stored = append(stored, index)
		}
	}
	if len(stored) == 0 {
		return hashes, nil
	}
	read, err := g.stored.ReadHashes(stored)
	if err != nil {
		return nil, err
	}
	for i, index := range indexes {
		if _, ok := g.added[index]; !ok {
			hashes[i], read = read[0], read[1:]
		}
	}
	return hashes, nil
}
