package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"golang.org/x/mod/sumdb/tlog"
)

// bundlesAtOnce is how many bundles of entries, of up to 8 MiB, are read at once. One
// caller gets half of the places.
const bundlesAtOnce = 16

// Checkpoint is the newest signed checkpoint; NotFound before there is one.
func (s *Service) Checkpoint(ctx context.Context) (tree.Signed, error) {
	latest, err := s.tree.Latest(ctx)
	switch {
	case errors.Is(err, database.ErrNoRows):
		return latest, fault.New(fault.NotFound, "CHECKPOINT_NOT_FOUND", "no event is under a signed checkpoint yet; a new one is within 2 s")
	case err != nil:
		return latest, fault.Down("the audit log", err)
	}
	return latest, nil
}

// Checkpoints are up to limit of the kept checkpoints of sizes above one, the smallest
// first.
func (s *Service) Checkpoints(ctx context.Context, above int64, limit int) ([]tree.Signed, error) {
	list, err := s.tree.Checkpoints(ctx, above, limit)
	if err != nil {
		return nil, fault.Down("the audit log", err)
	}
	return list, nil
}

// PublicKeys are the keys that verify checkpoints, the newest first.
func (s *Service) PublicKeys(ctx context.Context) ([]tree.PublicKey, error) {
	return s.tree.PublicKeys(ctx)
}

// Prove proves that the newest checkpoint's tree has an event, by its id.
func (s *Service) Prove(ctx context.Context, id string) (*auditlog.Proof, tree.Signed, error) {
	latest, err := s.Checkpoint(ctx)
	if err != nil {
		return nil, latest, err
	}
	entry, err := entryOf(ctx, s.db, text(id, nameSize))
	if errors.Is(err, database.ErrNoRows) {
		return nil, latest, s.unproven(ctx, id)
	}
	if err != nil {
		return nil, latest, fault.Down("the audit log", err)
	}
	if entry.Leaf >= latest.Size {
		return nil, latest, notYet()
	}
	hashes, err := s.tree.Prove(ctx, latest.Size, entry.Leaf)
	if err != nil {
		return nil, latest, fmt.Errorf("prove event %d of %d: %w", entry.Leaf, latest.Size, err)
	}
	return &auditlog.Proof{Leaf: entry.Bytes(), Index: entry.Leaf, Hashes: hashes, Checkpoint: latest.Note}, latest, nil
}

// unproven says why an event has no leaf.
func (s *Service) unproven(ctx context.Context, id string) error {
	if _, err := s.Get(ctx, id); err != nil {
		return err
	}
	return notYet()
}

func notYet() error {
	return fault.New(fault.Precondition, "NOT_IN_TREE_YET", "the event is recorded and not under a signed checkpoint yet; try again in 2 s").After(2 * time.Second)
}

// Consistency proves that the tree of one size begins with that of a smaller one; 0 for
// the newest checkpoint's.
func (s *Service) Consistency(ctx context.Context, from, to int64) (int64, tlog.TreeProof, error) {
	latest, err := s.Checkpoint(ctx)
	if err != nil {
		return 0, nil, err
	}
	if to == 0 {
		to = latest.Size
	}
	if to > latest.Size {
		return 0, nil, fault.Field("to", "is %d, and the newest checkpoint is of %d events", to, latest.Size)
	}
	if from > to {
		return 0, nil, fault.Field("from", "is %d, which is more than the %d that it is compared with", from, to)
	}
	proof, err := s.tree.Consistency(ctx, to, from)
	if err != nil {
		return 0, nil, fmt.Errorf("prove %d of %d: %w", from, to, err)
	}
	return to, proof, nil
}

// Tile is a tile's hashes, or a bundle of entries, by its path (https://c2sp.org/tlog-tiles).
// Only what the newest checkpoint covers is given. It is Unavailable, AUDIT_BUSY, when as
// many bundles are being read as may be.
func (s *Service) Tile(ctx context.Context, path string) ([]byte, error) {
	tile, err := auditlog.ParseTile(path)
	if err != nil {
		return nil, fault.Field("path", "is not the path of a tile, such as tile/0/x001/234 or tile/entries/000.p/7 (https://c2sp.org/tlog-tiles)")
	}
	none := fault.New(fault.NotFound, "TILE_NOT_FOUND", "the log has no such tile, or not one that wide; its checkpoint says how many events it has")
	latest, err := s.tree.Latest(ctx)
	if errors.Is(err, database.ErrNoRows) {
		return nil, none
	}
	if err != nil {
		return nil, fault.Down("the audit log", err)
	}
	if covered := latest.Size >> (auditlog.TileHeight * tile.Level); tile.Level > 7 || tile.N*auditlog.TileWidth+int64(tile.Width) > covered {
		return nil, none
	}
	if !tile.Entries {
		data, err := s.tree.Tile(ctx, tile)
		if err != nil && !errors.Is(err, database.ErrNoRows) {
			return nil, fault.Down("the audit log", err)
		}
		if err != nil {
			return nil, none
		}
		return data, nil
	}
	user := caller.From(ctx).UserID()
	if !s.bundles.Acquire(user, 1) {
		return nil, busy()
	}
	defer s.bundles.Release(user, 1)
	entries, err := s.Source().Entries(ctx, tile.N*auditlog.TileWidth, tile.Width)
	if err != nil {
		return nil, fault.Down("the audit log", err)
	}
	var bundle []byte
	for _, entry := range entries {
		bundle = auditlog.AppendEntry(bundle, entry)
	}
	return bundle, nil
}
