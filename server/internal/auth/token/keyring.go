// Package token signs access tokens and assertions, verifies access tokens, and
// keeps, rotates and publishes the keys that do.
package token

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/tollgatehq/tollgate/internal/jose"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/clock"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// Options are what Keys need. Algorithm, Rotation and Ahead have defaults.
type Options struct {
	DB     *database.DB
	Log    *changes.Log
	Clock  clock.Clock
	Master *seal.Master // seals the private keys

	Issuer   string        // "iss" of the tokens
	Audience string        // "aud" of tokens that are for no other service
	TTL      time.Duration // how long a token lives at most

	Algorithm string        // of keys made from now on; "": EdDSA
	Rotation  time.Duration // how often a new key is made; 0: only when asked for
	Ahead     time.Duration // how long a key is published before it signs; 0: jose.KeyLeadTime
}

// Keys sign access tokens and verify them. They are safe for concurrent use;
// the set of keys is replaced as a whole.
type Keys struct {
	Options
	keep     time.Duration // how long a key verifies after it signed last
	set      atomic.Pointer[keySet]
	verified *otter.Cache[tokenHash, verifiedToken]
}

// New makes Keys. Call Ensure and Load before the first token.
func New(o Options) *Keys {
	o.Algorithm, o.Ahead = cmp.Or(o.Algorithm, jose.EdDSA), cmp.Or(o.Ahead, jose.KeyLeadTime)
	k := &Keys{
		Options: o, keep: max(o.TTL, jose.AssertionTTL) + jose.ClockSkew,
		verified: otter.Must(&otter.Options[tokenHash, verifiedToken]{MaximumSize: verifiedTokens}),
	}
	k.set.Store(newKeySet(nil))
	return k
}

// signingKey is one key pair. Its times are its state: it signs from active
// until retired, and verifies until removed.
type signingKey struct {
	id        string // RFC 7638 thumbprint
	algorithm string
	private   crypto.Signer
	public    crypto.PublicKey
	created   time.Time
	active    time.Time
	retired   time.Time // zero: never
	removed   time.Time // zero: never
	header    string    // the first segment of its access tokens

	assertionHeader string // the first segment of its assertions
}

// keySet is the keys that may verify. It never changes.
type keySet struct {
	byHeader map[string]*signingKey
	newest   []*signingKey // by active, the newest first
	jwks     []byte
	until    time.Time // when the first of them is removed; zero: never
}

func newKeySet(keys []*signingKey) *keySet {
	set := &keySet{byHeader: make(map[string]*signingKey, len(keys)), newest: slices.Clone(keys)}
	slices.SortFunc(set.newest, func(a, b *signingKey) int {
		return cmp.Or(b.active.Compare(a.active), cmp.Compare(a.id, b.id))
	})
	public := make([]jose.Key, len(set.newest))
	for i, key := range set.newest {
		set.byHeader[key.header] = key
		if !key.removed.IsZero() && (set.until.IsZero() || key.removed.Before(set.until)) {
			set.until = key.removed
		}
		public[i] = jose.Key{ID: key.id, Algorithm: key.algorithm, Public: key.public}
	}
	var err error
	if set.jwks, err = jose.EncodeKeySet(public); err != nil {
		panic(err) // each had a thumbprint when it was opened
	}
	return set
}

// key finds the key that verifies tokens with this first segment at now, or nil.
func (set *keySet) key(header string, now time.Time) *signingKey {
	key := set.byHeader[header]
	if key == nil || clock.Reached(key.removed, now) {
		return nil
	}
	return key
}

// signer is the newest key that is active, or nil. When every key is still to
// become active, another instance with a faster clock has just made the first
// one: then it is the one that comes first.
func (set *keySet) signer(now time.Time) *signingKey {
	var signer *signingKey
	for _, key := range set.newest {
		if clock.Reached(key.retired, now) || clock.Reached(key.removed, now) {
			continue
		}
		signer = key
		if clock.Reached(key.active, now) {
			return key
		}
	}
	return signer
}

// JWKS is the JSON Web Key Set (RFC 7517 §5) of every key whose tokens are
// still good, for services that verify access tokens themselves. The bytes are
// shared: do not change them.
func (k *Keys) JWKS() []byte {
	set, now := k.set.Load(), k.Clock.Now()
	if !clock.Reached(set.until, now) {
		return set.jwks
	}
	rest := newKeySet(slices.DeleteFunc(slices.Clone(set.newest), func(key *signingKey) bool {
		return clock.Reached(key.removed, now)
	}))
	k.set.CompareAndSwap(set, rest) // if it fails, a newer set was loaded
	return rest.jwks
}

// Ensure makes the first signing key when there is none. However many instances
// start at once, one key results.
func (k *Keys) Ensure(ctx context.Context) error {
	if err := k.ensure(caller.System(ctx)); err != nil {
		return fmt.Errorf("ensure a signing key: %w", err)
	}
	return nil
}

func (k *Keys) ensure(ctx context.Context) error {
	if n, err := countSigners(ctx, k.DB, k.Clock.Now()); err != nil || n > 0 {
		return err
	}
	row, err := k.newKeyRow(k.Algorithm)
	if err != nil {
		return err
	}
	_, err = k.Log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockKeys(ctx, tx); err != nil {
			return err
		}
		now := k.Clock.Now()
		if n, err := countSigners(ctx, tx, now); err != nil || n > 0 {
			return err
		}
		row.CreatedAt, row.ActiveAt = now.UnixMicro(), now.UnixMicro()
		tx.Record(audit.New(ctx, audit.SigningKeyNew, audit.Success, keyName(row.ID)).With("algorithm", row.Algorithm))
		tx.Changed(changes.SigningKey, row.ID)
		return insertKey(ctx, tx, row)
	})
	return err
}

// newKeyRow makes a key pair; its times are the caller's to set. It may take
// long for RS256, so it is made before the transaction.
func (k *Keys) newKeyRow(algorithm string) (keyRow, error) {
	private, encoded, err := newPrivateKey(algorithm)
	if err != nil {
		return keyRow{}, err
	}
	id, err := jose.Thumbprint(private.Public())
	if err != nil {
		return keyRow{}, err
	}
	public, err := encodePublicKey(private.Public())
	if err != nil {
		return keyRow{}, err
	}
	return keyRow{ID: id, Algorithm: algorithm, PublicKey: public, PrivateKey: k.Master.Seal(encoded, keyName(id))}, nil
}

// keyName is a key's name in the audit log, and what its private part is sealed
// with.
func keyName(id string) string { return "signing_keys/" + id }

// Load reads the keys that are in use. Call it at the start and whenever a
// signing key changed.
func (k *Keys) Load(ctx context.Context) error {
	rows, err := listUsableKeys(ctx, k.DB, k.Clock.Now())
	if err != nil {
		return fmt.Errorf("load signing keys: %w", err)
	}
	known := make(map[string]*signingKey)
	for _, key := range k.set.Load().newest {
		known[key.id] = key
	}
	keys := make([]*signingKey, len(rows))
	for i, row := range rows {
		if keys[i], err = openKey(row, known[row.ID], k.Master); err != nil {
			return fmt.Errorf("load signing key %s: %w", row.ID, err)
		}
	}
	k.set.Store(newKeySet(keys))
	return nil
}

// openKey unseals a row. The public key comes from the sealed private one, not
// from its column, so that an attacker who can only write to the database
// cannot make us accept a key of their own.
//
// A key that is known keeps its key pair, which its id names, and takes the
// row's times: an instance goes on when its keys have been sealed under a new
// master key.
func openKey(row keyRow, known *signingKey, master *seal.Master) (*signingKey, error) {
	key := &signingKey{
		id: row.ID, algorithm: row.Algorithm, header: jose.EncodeHeader(row.Algorithm, row.ID, jose.TypeAccessToken),
		assertionHeader: jose.EncodeHeader(row.Algorithm, row.ID, jose.TypeAssertion),
		created:         time.UnixMicro(row.CreatedAt).UTC(), active: time.UnixMicro(row.ActiveAt).UTC(),
		retired: database.Time(row.RetiredAt), removed: database.Time(row.RemovedAt),
	}
	if known != nil && known.algorithm == row.Algorithm {
		key.private, key.public = known.private, known.public
	} else {
		private, err := unseal(row, master)
		if err != nil {
			return nil, err
		}
		key.private, key.public = private, private.Public()
	}
	if !samePublicKey(key.public, row.PublicKey) {
		return nil, errors.New("its public and private parts do not belong together")
	}
	return key, nil
}

// unseal returns a row's private key, which fits its algorithm and its id.
func unseal(row keyRow, master *seal.Master) (crypto.Signer, error) {
	encoded, err := master.Open(row.PrivateKey, keyName(row.ID))
	if errors.Is(err, seal.ErrWrongKey) {
		return nil, fmt.Errorf("%w: give this instance the master key (TOLLGATE_MASTER_KEY, or the master key file) "+
			"that this database was first started with, or the new one if it was rewrapped since; "+seal.AfterLoss, err)
	}
	if err != nil {
		return nil, err
	}
	private, err := parsePrivateKey(row.Algorithm, encoded)
	if err != nil {
		return nil, err
	}
	if id, err := jose.Thumbprint(private.Public()); err != nil || id != row.ID {
		return nil, errors.New("its id is not the thumbprint of its private part")
	}
	return private, nil
}

// errNoSigner is what sign-ins get before Ensure.
func errNoSigner() error {
	return fault.New(fault.Unavailable, "NO_SIGNING_KEY", "no signing key is in force yet; try again").After(time.Second)
}
