package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"golang.org/x/mod/sumdb/tlog"
)

// source is the log in the database, to be verified or read in tiles. It implements
// auditlog.Source.
type source struct{ *Service }

// Source is the log as it is stored.
func (s *Service) Source() auditlog.Source { return source{s} }

// Latest is the newest checkpoint, signed; nil when there is none.
func (s source) Latest(ctx context.Context) ([]byte, error) {
	latest, err := s.tree.Latest(ctx)
	if errors.Is(err, database.ErrNoRows) {
		return nil, nil
	}
	return latest.Note, err
}

// Checkpoints are up to limit of the signed checkpoints of sizes above one.
func (s source) Checkpoints(ctx context.Context, above int64, limit int) ([][]byte, error) {
	list, err := s.tree.Checkpoints(ctx, above, limit)
	notes := make([][]byte, len(list))
	for i := range list {
		notes[i] = list[i].Note
	}
	return notes, err
}

// entriesAtOnce is how many events Entries reads in one statement.
const entriesAtOnce = 1024

// Entries are the bytes of n leaves from one on; empty for those whose event is not there.
func (s source) Entries(ctx context.Context, from int64, n int) ([][]byte, error) {
	entries := make([][]byte, n)
	end := from + int64(n)
	for first := from; first < end; first += entriesAtOnce {
		list, err := listEntries(ctx, s.db, first, int(min(entriesAtOnce, end-first)))
		if err != nil {
			return nil, err
		}
		for i := range list {
			entries[list[i].Leaf-from] = list[i].Bytes()
		}
	}
	return entries, nil
}

// Hashes are the stored hashes of n leaves from one on, as far as they are there.
func (s source) Hashes(ctx context.Context, from int64, n int) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, 0, n)
	for leaf := from; leaf < from+int64(n); {
		data, err := s.tree.Leaves(ctx, leaf/auditlog.TileWidth)
		if err != nil {
			return nil, fmt.Errorf("read the audit log's hashes: %w", err)
		}
		at := int(leaf%auditlog.TileWidth) * tlog.HashSize
		if at >= len(data) {
			return hashes, nil
		}
		for ; at+tlog.HashSize <= len(data) && leaf < from+int64(n); at += tlog.HashSize {
			hashes = append(hashes, tlog.Hash(data[at:at+tlog.HashSize]))
			leaf++
		}
	}
	return hashes, nil
}

// EventID is the id of a leaf's event, also of one that is not there any more; empty when
// that is not known.
func (s source) EventID(ctx context.Context, leaf int64) (string, error) {
	id, err := s.tree.EventID(ctx, leaf)
	if errors.Is(err, database.ErrNoRows) {
		return "", nil
	}
	return id, err
}
