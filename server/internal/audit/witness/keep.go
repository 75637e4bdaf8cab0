package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/audit/tree"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	writeEvery  = time.Second      // the file
	cosignEvery = 10 * time.Second // each witness
)

// Keeper gives the newest checkpoint to a file and to witnesses.
type Keeper struct {
	tree      *tree.Tree
	file      string // empty: none
	witnesses []*Witness
	log       *slog.Logger

	written auditlog.Checkpoint // what the file has
	failing []atomic.Bool       // the file, then the witnesses
}

// New makes a Keeper. The file's checkpoint, if there is one, must be of this log: the
// tree then signs only what continues it.
func New(ctx context.Context, t *tree.Tree, file string, witnesses []*Witness, log *slog.Logger) (*Keeper, error) {
	k := &Keeper{tree: t, file: file, witnesses: witnesses, log: log, failing: make([]atomic.Bool, 1+len(witnesses))}
	if file == "" {
		return k, nil
	}
	content, err := read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint's file: %w", err)
	}
	if k.written, err = t.Remember(ctx, content); err != nil {
		return nil, fmt.Errorf("the checkpoint in %s is not of this log (%w); keep it, find out why, and name another file to go on", file, err)
	}
	return k, nil
}

// Run gives away checkpoints until ctx ends. None waits for another that does not answer.
func (k *Keeper) Run(ctx context.Context) {
	var all sync.WaitGroup
	if k.file != "" {
		all.Go(func() { k.keep(ctx, 0, k.file, writeEvery, k.Write) })
	}
	for i, w := range k.witnesses {
		all.Go(func() {
			k.keep(ctx, 1+i, w.name, cosignEvery, func(ctx context.Context) error { return k.Cosign(ctx, w) })
		})
	}
	all.Wait()
}

// keep gives the newest checkpoint to one of them, again and again.
func (k *Keeper) keep(ctx context.Context, i int, to string, every time.Duration, give func(context.Context) error) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			k.note(ctx, i, to, give(ctx))
		}
	}
}

// Failing is how many of the file and the witnesses could not be given the newest
// checkpoint.
func (k *Keeper) Failing() (n int) {
	for i := range k.failing {
		if k.failing[i].Load() {
			n++
		}
	}
	return n
}

func (k *Keeper) note(ctx context.Context, i int, to string, err error) {
	switch failed := k.failing[i].Swap(err != nil); {
	case ctx.Err() != nil:
	case err != nil && !failed:
		k.log.ErrorContext(ctx, "the audit log's checkpoint cannot be kept elsewhere; trying again", "to", to, "error", err)
	case err == nil && failed:
		k.log.InfoContext(ctx, "the audit log's checkpoint is kept elsewhere again", "to", to)
	}
}

// Write writes the newest checkpoint to the file, if it continues the one there.
func (k *Keeper) Write(ctx context.Context) error {
	latest, err := k.tree.Latest(ctx)
	if errors.Is(err, database.ErrNoRows) && k.written.Size == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if latest.Checkpoint == k.written {
		return nil
	}
	if err := k.tree.Continues(ctx, k.written, latest.Checkpoint); err != nil {
		return err
	}
	if err := replace(k.file, latest.Note); err != nil {
		return err
	}
	k.written = latest.Checkpoint
	return nil
}

// read reads a file that is no larger than a checkpoint with signatures. It does not wait
// for a pipe's writer.
func read(path string) ([]byte, error) {
	switch info, err := os.Stat(path); {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case info.Size() > maxAnswer:
		return nil, fmt.Errorf("%s has %d bytes, which is more than a checkpoint has", path, info.Size())
	}
	return os.ReadFile(path)
}

// replace writes a file as a whole.
func replace(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".checkpoint-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(content)
	if err := errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err != nil { // for who checks it, who is somebody else
		return err
	}
	return os.Rename(file.Name(), path)
}

// Cosign gets a witness's signature of the newest checkpoint and adds it.
func (k *Keeper) Cosign(ctx context.Context, w *Witness) error {
	latest, err := k.tree.Latest(ctx)
	if errors.Is(err, database.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if bytes.Contains(latest.Note, []byte("\n— "+w.name+" ")) {
		return nil
	}
	line, err := w.Cosign(ctx, latest.Size, latest.Note, func(earlier int64) (tlog.TreeProof, error) {
		proof, err := k.tree.Consistency(ctx, latest.Size, earlier)
		if err == nil && len(proof) > maxProof {
			err = errors.New("the proof is too long")
		}
		return proof, err
	})
	if err != nil {
		return err
	}
	return k.tree.Cosigned(ctx, latest.Size, w.name, line)
}
