package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/changes"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/seal"
	"github.com/tollgatehq/tollgate/server/internal/world"
)

// algEdDSA is the one algorithm there is (RFC 8037); it is stored with each key
// and never taken from a token.
const algEdDSA = "EdDSA"

// signingKeys signs access tokens and verifies them. It is safe for concurrent
// use; the set of keys is replaced as a whole.
type signingKeys struct {
	issuer   string
	audience string
	world    world.World
	master   *seal.Master
	set      atomic.Pointer[keySet]
	verified *otter.Cache[tokenHash, verifiedToken]
}

// signingKey is one key pair. Its times are its state: it signs from active
// until retired, and verifies until removed.
type signingKey struct {
	id        string // RFC 7638 thumbprint
	algorithm string
	private   ed25519.PrivateKey
	public    ed25519.PublicKey
	active    time.Time
	retired   time.Time // zero: never
	removed   time.Time // zero: never
	header    string    // the first segment of its tokens
}

// keySet is the keys that may verify. It never changes.
type keySet struct {
	byHeader map[string]*signingKey
	newest   []*signingKey // by active, the newest first
	jwks     []byte
	until    time.Time // when the first of them is removed; zero: never
}

func newSigningKeys(o Options) *signingKeys {
	k := &signingKeys{
		issuer: o.Issuer, audience: o.Audience, world: o.World, master: o.Master,
		verified: otter.Must(&otter.Options[tokenHash, verifiedToken]{MaximumSize: verifiedTokens}),
	}
	k.set.Store(newKeySet(nil))
	return k
}

func newKeySet(keys []*signingKey) *keySet {
	set := &keySet{byHeader: make(map[string]*signingKey, len(keys)), newest: slices.Clone(keys)}
	slices.SortFunc(set.newest, func(a, b *signingKey) int {
		if order := b.active.Compare(a.active); order != 0 {
			return order
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	for _, key := range set.newest {
		set.byHeader[key.header] = key
		if !key.removed.IsZero() && (set.until.IsZero() || key.removed.Before(set.until)) {
			set.until = key.removed
		}
	}
	set.jwks = jwks(set.newest)
	return set
}

// key finds the key that verifies tokens with this first segment at now, or nil.
func (set *keySet) key(header string, now time.Time) *signingKey {
	key := set.byHeader[header]
	if key == nil || passed(key.removed, now) {
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
		if passed(key.retired, now) || passed(key.removed, now) {
			continue
		}
		signer = key
		if passed(key.active, now) {
			return key
		}
	}
	return signer
}

// passed says whether a time that may be unset has come.
func passed(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// JWKS is the JSON Web Key Set (RFC 7517 §5) of every key whose tokens are
// still good, for those who verify access tokens themselves. The bytes are
// shared: do not change them.
func (s *Service) JWKS() []byte {
	set, now := s.keys.set.Load(), s.world.Now()
	if !passed(set.until, now) {
		return set.jwks
	}
	rest := newKeySet(slices.DeleteFunc(slices.Clone(set.newest), func(key *signingKey) bool {
		return passed(key.removed, now)
	}))
	s.keys.set.CompareAndSwap(set, rest) // if it fails, a newer set was loaded
	return rest.jwks
}

// EnsureSigningKey makes the first signing key when there is none. However
// many instances start at once, one key results. The key is in force here when
// it returns, if the service follows the change log already.
func (s *Service) EnsureSigningKey(ctx context.Context) error {
	ctx = caller.System(ctx)
	_, err := s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockSigningKeys(ctx, tx); err != nil {
			return err
		}
		now := s.world.Now()
		exists, err := signingKeyExists(ctx, tx, now)
		if err != nil || exists {
			return err
		}
		row := s.newSigningKeyRow(now)
		if err := insertSigningKey(ctx, tx, row); err != nil {
			return err
		}
		tx.Record(audit.New(ctx, audit.SigningKeyNew, audit.Success, signingKeyName(row.ID)).With("algorithm", row.Algorithm))
		tx.Changed(changes.SigningKey, row.ID)
		return nil
	})
	if err != nil {
		return fmt.Errorf("ensure a signing key: %w", err)
	}
	return nil
}

// newSigningKeyRow makes a key pair that signs from now on.
func (s *Service) newSigningKeyRow(now time.Time) signingKeyRow {
	seed := s.world.Bytes(ed25519.SeedSize)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	id := thumbprint(public)
	return signingKeyRow{
		ID: id, Algorithm: algEdDSA, PublicKey: public,
		PrivateKey: s.keys.master.Seal(seed, signingKeyName(id)),
		CreatedAt:  now.UnixMicro(), ActiveAt: now.UnixMicro(),
	}
}

// signingKeyName is a key's name in the audit log, and what its private part
// is sealed with.
func signingKeyName(id string) string { return "signing_keys/" + id }

// applyKeys takes in changes of signing keys and API keys.
func (s *Service) applyKeys(ctx context.Context, list []changes.Change) error {
	reload := false
	for _, change := range list {
		switch change.Kind {
		case changes.SigningKey:
			reload = true
		case changes.APIKey:
			s.apiKeys.known.Invalidate(change.Subject)
		}
	}
	if !reload {
		return nil
	}
	return s.loadSigningKeys(ctx)
}

// resetKeys forgets what is known of API keys and reads the signing keys.
func (s *Service) resetKeys(ctx context.Context) error {
	s.apiKeys.known.Clear()
	return s.loadSigningKeys(ctx)
}

func (s *Service) loadSigningKeys(ctx context.Context) error {
	rows, err := selectSigningKeys(ctx, s.db, s.world.Now())
	if err != nil {
		return fmt.Errorf("load signing keys: %w", err)
	}
	keys := make([]*signingKey, len(rows))
	for i, row := range rows {
		if keys[i], err = openSigningKey(row, s.keys.master); err != nil {
			return fmt.Errorf("load signing key %s: %w", row.ID, err)
		}
	}
	s.keys.set.Store(newKeySet(keys))
	return nil
}

// openSigningKey unseals a row. The public key comes from the sealed private
// one, not from its column, so that nobody who can only write to the database
// can have us accept a key of their own.
func openSigningKey(row signingKeyRow, master *seal.Master) (*signingKey, error) {
	if row.Algorithm != algEdDSA {
		return nil, fmt.Errorf("its algorithm %q is not known to this version; upgrade this instance", row.Algorithm)
	}
	seed, err := master.Open(row.PrivateKey, signingKeyName(row.ID))
	if errors.Is(err, seal.ErrWrongKey) {
		return nil, fmt.Errorf("%w: give this instance the master key (TOLLGATE_MASTER_KEY, or the master key file) "+
			"that this database was first started with; if it is lost for good, delete the rows of the table signing_keys "+
			"and start again, which invalidates the access tokens issued so far", err)
	}
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("its private key has %d bytes instead of %d", len(seed), ed25519.SeedSize)
	}
	private := ed25519.NewKeyFromSeed(seed)
	public := private.Public().(ed25519.PublicKey)
	if !public.Equal(ed25519.PublicKey(row.PublicKey)) || thumbprint(public) != row.ID {
		return nil, errors.New("its public and private parts do not belong together")
	}
	return &signingKey{
		id: row.ID, algorithm: row.Algorithm, private: private, public: public,
		active: time.UnixMicro(row.ActiveAt), retired: timeOf(row.RetiredAt), removed: timeOf(row.RemovedAt),
		header: tokenHeader(row.Algorithm, row.ID),
	}, nil
}

// errNoSigner: sign-ins wait for EnsureSigningKey.
func errNoSigner() error {
	return fault.New(fault.Unavailable, "NO_SIGNING_KEY", "no signing key is in force yet; try again").After(time.Second)
}
