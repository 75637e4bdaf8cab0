package tree

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"golang.org/x/mod/sumdb/tlog"
)

// Tile is a tile's hashes; ErrNoRows when the tree has no tile that wide there.
func (t *Tree) Tile(ctx context.Context, tile auditlog.Tile) ([]byte, error) {
	data, err := readTile(ctx, t.db, tile)
	if err != nil {
		return nil, err
	}
	return data[:tile.Width*tlog.HashSize], nil
}

// Leaves are the hashes of the n-th tile of leaves, as many as are there.
func (t *Tree) Leaves(ctx context.Context, n int64) ([]byte, error) {
	data, err := tileData(ctx, t.db, 0, n)
	if errors.Is(err, database.ErrNoRows) {
		return nil, nil
	}
	return data, err
}

// EventID is the id of a leaf's event; ErrNoRows when it was removed.
func (t *Tree) EventID(ctx context.Context, leaf int64) (id string, err error) {
	err = t.db.Get(ctx, &id, `SELECT event_id FROM audit_leaves WHERE leaf = $1`, leaf)
	return id, err
}

func (t *Tree) hashes(ctx context.Context) tlog.HashReader {
	return auditlog.Hashes(func(tile auditlog.Tile) ([]byte, error) { return readTile(ctx, t.db, tile) })
}

// Prove proves that the tree of a size has a leaf (RFC 6962 §2.1.1).
func (t *Tree) Prove(ctx context.Context, size, leaf int64) (tlog.RecordProof, error) {
	return tlog.ProveRecord(size, leaf, t.hashes(ctx))
}

// Consistency proves that the tree of one size begins with the tree of another, smaller
// one (RFC 6962 §2.1.2).
func (t *Tree) Consistency(ctx context.Context, size, earlier int64) (tlog.TreeProof, error) {
	return tlog.ProveTree(size, earlier, t.hashes(ctx))
}

// Address is an address as it is searched by: "4" or "6" and its bytes in hex, so that
// the addresses of a network are a range. It is empty for what is not an address.
func Address(text string) string {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	addr = addr.WithZone("").Unmap()
	family := "6"
	if addr.Is4() {
		family = "4"
	}
	return family + hex.EncodeToString(addr.AsSlice())
}

// Remember makes the tree sign only what continues a signed checkpoint of its own that
// was kept elsewhere.
func (t *Tree) Remember(ctx context.Context, signed []byte) (auditlog.Checkpoint, error) {
	keys, err := t.verifiers(ctx, t.db)
	if err != nil {
		return auditlog.Checkpoint{}, err
	}
	c, err := auditlog.OpenCheckpoint(signed, keys)
	if err == nil {
		t.saw(c)
	}
	return c, err
}

// Continues says whether a later checkpoint's tree begins with an earlier one's; ErrForked
// when it does not.
func (t *Tree) Continues(ctx context.Context, earlier, later auditlog.Checkpoint) error {
	if later.Size < earlier.Size {
		return fmt.Errorf("%w: there was a checkpoint of %d events, and the newest is of %d", ErrForked, earlier.Size, later.Size)
	}
	return continues(earlier, later, t.hashes(ctx))
}

// Cosigned adds a witness's signature line to a checkpoint, once.
func (t *Tree) Cosigned(ctx context.Context, size int64, witness, line string) error {
	return t.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		return addSignature(ctx, tx, size, "\n— "+witness+" ", line)
	})
}
