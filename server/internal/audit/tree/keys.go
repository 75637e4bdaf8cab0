package tree

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/tollgatehq/tollgate/internal/auditlog"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/seal"
	"golang.org/x/mod/sumdb/note"
)

// key signs checkpoints. It implements note.Signer.
type key struct {
	name    string // the log's origin
	hash    uint32
	private ed25519.PrivateKey
	public  note.Verifier
	text    string // NAME+HASH+KEY
	created time.Time
	retired time.Time // zero: it signs
}

func (k *key) Name() string                    { return k.name }
func (k *key) KeyHash() uint32                 { return k.hash }
func (k *key) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(k.private, msg), nil }

// sealedAs is the context that a key of this id is sealed in.
func sealedAs(id string) string { return "audit key " + id }

func newKey(name string, private ed25519.PrivateKey) (*key, error) {
	public, _ := private.Public().(ed25519.PublicKey)
	text, err := note.NewEd25519VerifierKey(name, public)
	if err != nil {
		return nil, fmt.Errorf("the audit log's name %q: %w", name, err)
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("the audit log's name %q: %w", name, err)
	}
	return &key{name: name, hash: verifier.KeyHash(), private: private, public: verifier, text: text}, nil
}

func (k *key) id() string { return fmt.Sprintf("%08x", k.hash) }

// Ensure makes the key that a new log lacks, and opens those that there are.
func (t *Tree) Ensure(ctx context.Context) error {
	return t.db.Write(ctx, func(ctx context.Context, tx *database.Tx) error {
		if err := waitHead(ctx, tx); err != nil {
			return err
		}
		rows, err := t.open(ctx, tx)
		if err != nil || len(rows) > 0 {
			return err
		}
		return t.makeKey(ctx, tx, t.origin)
	})
}

// Rotate makes a new key that signs from now on. The old one still verifies what it signed.
func (t *Tree) Rotate(ctx context.Context, tx *database.Tx) (id string, err error) {
	if err := waitHead(ctx, tx); err != nil {
		return "", err
	}
	signer, err := t.signer(ctx, tx)
	if err != nil {
		return "", err
	}
	if err := retireKeys(ctx, tx, t.clock.Now()); err != nil {
		return "", err
	}
	if err := t.makeKey(ctx, tx, signer.name); err != nil {
		return "", err
	}
	signer, err = t.signer(ctx, tx)
	if err != nil {
		return "", err
	}
	return signer.id(), nil
}

func (t *Tree) makeKey(ctx context.Context, tx *database.Tx, name string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make the audit log's key: %w", err)
	}
	made, err := newKey(name, private)
	if err != nil {
		return err
	}
	return insertKey(ctx, tx, keyRow{
		ID: made.id(), Name: name, PublicKey: public, CreatedAt: t.clock.Micros(),
		PrivateKey: t.master.Seal(private.Seed(), sealedAs(made.id())),
	})
}

// open opens the keys, the newest first. A key that this master key did not seal is an
// error: who owns the database alone cannot bring in one of their own.
func (t *Tree) open(ctx context.Context, q database.Queries) ([]*key, error) {
	rows, err := listKeys(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("read the audit log's keys: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := make([]*key, len(rows))
	for i, row := range rows {
		known := t.keys[row.ID]
		if known == nil {
			if known, err = openKey(t.master, row); err != nil {
				return nil, err
			}
			t.keys[row.ID] = known
		}
		current := *known
		current.created, current.retired = time.UnixMicro(row.CreatedAt).UTC(), database.Time(row.RetiredAt)
		keys[i] = &current
	}
	return keys, nil
}

func openKey(master *seal.Master, row keyRow) (*key, error) {
	seed, err := master.Open(row.PrivateKey, sealedAs(row.ID))
	if errors.Is(err, seal.ErrWrongKey) {
		return nil, fmt.Errorf("the audit log's key %s: %w: set TOLLGATE_MASTER_KEY to the key that the database was made with; %s", row.ID, err, seal.AfterLoss)
	}
	if err != nil {
		return nil, fmt.Errorf("the audit log's key %s: %w", row.ID, err)
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("the audit log's key %s: not a key", row.ID)
	}
	k, err := newKey(row.Name, ed25519.NewKeyFromSeed(seed))
	if err == nil && k.id() != row.ID {
		err = fmt.Errorf("the audit log's key %s: it is named %s", row.ID, k.id())
	}
	return k, err
}

// signer is the key that signs now.
func (t *Tree) signer(ctx context.Context, q database.Queries) (*key, error) {
	keys, err := t.open(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.retired.IsZero() {
			return k, nil
		}
	}
	return nil, errors.New("the audit log has no key that signs")
}

func (t *Tree) verifiers(ctx context.Context, q database.Queries) (auditlog.Keys, error) {
	keys, err := t.open(ctx, q)
	if err != nil {
		return nil, err
	}
	list := make(auditlog.Keys, len(keys))
	for i, k := range keys {
		list[i] = k.public
	}
	return list, nil
}

// PublicKey is a key that verifies checkpoints.
type PublicKey struct {
	ID      string // eight hex digits
	Text    string // NAME+HASH+KEY (https://c2sp.org/signed-note)
	Created time.Time
	Retired time.Time // zero: it signs
}

// PublicKeys are the log's keys, the newest first.
func (t *Tree) PublicKeys(ctx context.Context) ([]PublicKey, error) {
	keys, err := t.open(ctx, t.db)
	if err != nil {
		return nil, err
	}
	list := make([]PublicKey, len(keys))
	for i, k := range keys {
		list[i] = PublicKey{k.id(), k.text, k.created, k.retired}
	}
	return list, nil
}

// SignRemoval signs what a retention is about to remove.
func (t *Tree) SignRemoval(ctx context.Context, q database.Queries, r auditlog.Removal) ([]byte, error) {
	signer, err := t.signer(ctx, q)
	if err != nil {
		return nil, err
	}
	return signer.Sign(r.Text())
}

// Rewrap seals all keys anew, and says how many there are.
func Rewrap(ctx context.Context, tx *database.Tx, rewrap func(sealed []byte, context string) ([]byte, error)) (int, error) {
	if err := waitHead(ctx, tx); err != nil {
		return 0, err
	}
	rows, err := listKeys(ctx, tx)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if row.PrivateKey, err = rewrap(row.PrivateKey, sealedAs(row.ID)); err != nil {
			return 0, err
		}
		if err := updateSealed(ctx, tx, row); err != nil {
			return 0, err
		}
	}
	return len(rows), nil
}
