package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/terminal"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

// exitChanged is verify's status for a log that is not whole.
const exitChanged = 1

// VerifyFlags are what audit verify takes, whether it asks a server or a database.
type VerifyFlags struct {
	Since string   `help:"A checkpoint that you saved: the log must still begin with the events that it covers." placeholder:"FILE" type:"existingfile"`
	Key   []string `help:"A key of the log, NAME+HASH+KEY, that you know from elsewhere. Default: those that the log says." placeholder:"KEY" sep:"none"`
	Save  string   `help:"Write the newest checkpoint to this file when the log is whole, for the next --since." placeholder:"FILE" type:"path"`
}

// Verification is what the flags ask for, of a log whose own keys these are.
func (f VerifyFlags) Verification(source auditlog.Source, own []string, progress func(done, total int64)) (v auditlog.Verification, err error) {
	v = auditlog.Verification{Source: source, Tell: progress}
	if len(f.Key) > 0 {
		own = f.Key
	}
	if v.Keys, err = auditlog.ParseKeys(own...); err != nil {
		return v, err
	}
	if f.Since != "" {
		if v.Saved, err = os.ReadFile(f.Since); err != nil {
			return v, fmt.Errorf("read the saved checkpoint: %w", err)
		}
	}
	return v, nil
}

// Conclude says what was found, and returns an error when the log is not whole.
func (f VerifyFlags) Conclude(out io.Writer, v auditlog.Verification, r *auditlog.Report) error {
	if c := r.Checkpoint; c.Origin != "" {
		fmt.Fprintf(out, "log     %s\nevents  %d\nroot    %s\n", terminal.Plain(c.Origin), c.Size, c.Root)
		if r.Removed > 0 {
			fmt.Fprintf(out, "removed %d by retention, on record in the log\n", r.Removed)
		}
	}
	if len(r.Findings) > 0 {
		for _, finding := range r.Findings {
			fmt.Fprintln(out, "NOT AS SIGNED:", terminal.Plain(finding.String()))
		}
		if r.More > 0 {
			fmt.Fprintf(out, "and %d more\n", r.More)
		}
		return exit{errors.New("the log is not the one that was signed; keep a copy of the database as it is"), exitChanged}
	}
	if r.Signed == nil {
		fmt.Fprintln(out, "no event is under a checkpoint yet")
		return nil
	}
	fmt.Fprintln(out, "whole: each event is the one that was recorded")
	if v.Saved != nil {
		saved, err := auditlog.ParseCheckpoint(string(v.Saved))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "continues the saved checkpoint of %d events\n", saved.Size)
	} else {
		fmt.Fprintln(out, "without --since nothing says that the newest events were not cut off; --save keeps a checkpoint for the next time")
	}
	if f.Save == "" {
		return nil
	}
	return save(f.Save, r.Signed)
}

// Failed is the error of a log that could not be verified.
func (VerifyFlags) Failed(err error) error {
	if _, ok := errors.AsType[exit](err); ok || err == nil {
		return err
	}
	return exit{fmt.Errorf("the log could not be verified: %w", err), exitUnasked}
}

// Progress shows how far a verification is, where somebody looks.
func Progress(w io.Writer) func(done, total int64) {
	if !isTerminal(w) {
		return nil
	}
	var shown time.Time
	return func(done, total int64) {
		if time.Since(shown) < 200*time.Millisecond && done < total {
			return
		}
		shown = time.Now()
		fmt.Fprintf(w, "\r%d of %d events", done, total)
		if done == total {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}
}

type auditVerify struct{ VerifyFlags }

func (auditVerify) Help() string {
	return `Rebuilds the log's tree from its events and names the first event that was edited, deleted, reordered or cut off. Exit status 0: whole; 1: not; 2: it could not be verified.

With --url, --profile or --api-key, or TOLLGATE_URL or TOLLGATE_PROFILE, it asks a server; leave --since out the first time:

    tollgate audit verify --url https://tollgate.example.com --since saved --save saved

Without, also for who is signed in, it opens the database, as the server's flags and variables say, and needs the master key (TOLLGATE_MASTER_KEY), which proves that the log's keys are its own:

    tollgate audit verify --database-url postgres://… --since saved

Keep the saved checkpoint where who runs the database cannot write.`
}

// Run verifies the server's log over the API.
func (a auditVerify) Run(ctx context.Context, e *env) error {
	return a.Failed(a.run(ctx, e))
}

func (a auditVerify) run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	own, err := server.auditKeys(ctx)
	if err != nil {
		return err
	}
	v, err := a.Verification(&remoteLog{api: server}, own, Progress(e.err))
	if err != nil {
		return err
	}
	report, err := v.Verify(ctx)
	if err != nil {
		return err
	}
	return a.Conclude(e.out, v, report)
}

func (a *api) auditKeys(ctx context.Context) ([]string, error) {
	list, err := a.audit.ListAuditKeys(ctx, &tollgatev1.ListAuditKeysRequest{})
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(list.GetKeys()))
	for i, k := range list.GetKeys() {
		keys[i] = k.GetKey()
	}
	return keys, nil
}

// remoteLog is a server's log, read by tiles as far as a checkpoint of it goes. It
// implements auditlog.Source.
type remoteLog struct{ *api }

// Latest is the newest checkpoint.
func (l *remoteLog) Latest(ctx context.Context) ([]byte, error) {
	res, err := l.audit.GetCheckpoint(ctx, &tollgatev1.GetCheckpointRequest{})
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil, nil
	}
	return []byte(res.GetCheckpoint().GetSigned()), err
}

// Checkpoints are the kept checkpoints above a size.
func (l *remoteLog) Checkpoints(ctx context.Context, above int64, limit int) ([][]byte, error) {
	res, err := l.audit.ListCheckpoints(ctx, &tollgatev1.ListCheckpointsRequest{Above: above, PageSize: int32(limit)})
	if err != nil {
		return nil, err
	}
	notes := make([][]byte, len(res.GetCheckpoints()))
	for i, c := range res.GetCheckpoints() {
		notes[i] = []byte(c.GetSigned())
	}
	return notes, nil
}

// Entries are the bytes of n leaves from a tile's first on.
func (l *remoteLog) Entries(ctx context.Context, from int64, n int) ([][]byte, error) {
	bundles, err := l.tiles(ctx, auditlog.Tile{Entries: true}, from, n)
	if err != nil {
		return nil, err
	}
	entries := make([][]byte, 0, n)
	for _, bundle := range bundles {
		list, err := auditlog.SplitEntries(bundle)
		if err != nil {
			return nil, err
		}
		entries = append(entries, list...)
	}
	return entries, nil
}

// Hashes are the hashes of n leaves from a tile's first on.
func (l *remoteLog) Hashes(ctx context.Context, from int64, n int) ([]tlog.Hash, error) {
	tiles, err := l.tiles(ctx, auditlog.Tile{}, from, n)
	if err != nil {
		return nil, err
	}
	hashes := make([]tlog.Hash, 0, n)
	for _, data := range tiles {
		for ; len(data) >= tlog.HashSize; data = data[tlog.HashSize:] {
			hashes = append(hashes, tlog.Hash(data[:tlog.HashSize]))
		}
	}
	return hashes, nil
}

// tilesAtOnce is how many tiles are asked for at once.
const tilesAtOnce = 4

// tiles are the tiles of a kind that have n leaves from the first of one on. What comes
// after a tile that is not there is left out.
func (l *remoteLog) tiles(ctx context.Context, kind auditlog.Tile, from int64, n int) ([][]byte, error) {
	count := (n + auditlog.TileWidth - 1) / auditlog.TileWidth
	tiles := make([][]byte, count)
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(tilesAtOnce)
	for i := range tiles {
		tile := kind
		tile.N, tile.Width = from/auditlog.TileWidth+int64(i), min(auditlog.TileWidth, n-i*auditlog.TileWidth)
		all.Go(func() error {
			res, err := l.audit.GetTile(ctx, &tollgatev1.GetTileRequest{Path: tile.Path()})
			if connect.CodeOf(err) == connect.CodeNotFound {
				return nil
			}
			tiles[i] = res.GetData()
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	for i, data := range tiles {
		if data == nil {
			return tiles[:i], nil
		}
	}
	return tiles, nil
}
