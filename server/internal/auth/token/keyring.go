package auth

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
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/seal"
)

// signingKeys signs access tokens and verifies them. It is safe for concurrent
// use; the set of keys is replaced as a whole.
type signingKeys struct {
	issuer   string
	audience string
	clock    clock.Clock
	master   *seal.Master

	algorithm string        // of keys made from now on
	rotation  time.Duration // 0: only when told to
	ahead     time.Duration // how long a key is published before it signs
	keep      time.Duration // how long a key verifies after it signed last

	set      atomic.Pointer[keySet]
	verified *otter.Cache[tokenHash, verifiedToken]
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
		issuer: o.Issuer, audience: o.Audience, clock: o.Clock, master: o.Master,
		algorithm: cmp.Or(o.SigningAlgorithm, jose.EdDSA), rotation: o.SigningKeyRotation,
		ahead: cmp.Or(o.SigningKeyAhead, jose.KeyLeadTime), keep: o.AccessTokenTTL + jose.ClockSkew,
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
	public := make([]jose.Key, len(set.newest))
	for i, key := range set.newest {
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
	set, now := s.keys.set.Load(), s.clock.Now()
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
	exists, err := signingKeyExists(ctx, s.db, s.clock.Now())
	if err != nil {
		return fmt.Errorf("ensure a signing key: %w", err)
	}
	if exists {
		return nil
	}
	row, err := s.newSigningKeyRow(s.keys.algorithm)
	if err != nil {
		return fmt.Errorf("ensure a signing key: %w", err)
	}
	_, err = s.log.Write(ctx, func(ctx context.Context, tx *changes.Tx) error {
		if err := lockSigningKeys(ctx, tx); err != nil {
			return err
		}
		now := s.clock.Now()
		exists, err := signingKeyExists(ctx, tx, now)
		if err != nil || exists {
			return err
		}
		row.CreatedAt, row.ActiveAt = now.UnixMicro(), now.UnixMicro()
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

// newSigningKeyRow makes a key pair; its times are the caller's to set. It may
// take long for RS256, so it is made before the transaction.
func (s *Service) newSigningKeyRow(algorithm string) (signingKeyRow, error) {
	private, encoded, err := newPrivateKey(algorithm)
	if err != nil {
		return signingKeyRow{}, err
	}
	id, err := jose.Thumbprint(private.Public())
	if err != nil {
		return signingKeyRow{}, err
	}
	public, err := encodePublicKey(private.Public())
	if err != nil {
		return signingKeyRow{}, err
	}
	return signingKeyRow{
		ID: id, Algorithm: algorithm, PublicKey: public,
		PrivateKey: s.keys.master.Seal(encoded, signingKeyName(id)),
	}, nil
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
	rows, err := selectSigningKeys(ctx, s.db, s.clock.Now())
	if err != nil {
		return fmt.Errorf("load signing keys: %w", err)
	}
	known := make(map[string]*signingKey)
	for _, key := range s.keys.set.Load().newest {
		known[key.id] = key
	}
	keys := make([]*signingKey, len(rows))
	for i, row := range rows {
		if keys[i], err = openSigningKey(row, known[row.ID], s.keys.master); err != nil {
			return fmt.Errorf("load signing key %s: %w", row.ID, err)
		}
	}
	s.keys.set.Store(newKeySet(keys))
	return nil
}

// openSigningKey unseals a row. The public key comes from the sealed private
// one, not from its column, so that nobody who can only write to the database
// can have us accept a key of their own.
//
// A key that is known keeps its key pair, which its id names, and takes the
// row's times: an instance goes on when its keys have been sealed under a new
// master key.
func openSigningKey(row signingKeyRow, known *signingKey, master *seal.Master) (*signingKey, error) {
	key := &signingKey{id: row.ID, algorithm: row.Algorithm, header: jose.EncodeHeader(row.Algorithm, row.ID)}
	if known != nil && known.algorithm == row.Algorithm {
		key.private, key.public = known.private, known.public
	} else {
		private, err := unsealSigningKey(row, master)
		if err != nil {
			return nil, err
		}
		key.private, key.public = private, private.Public()
	}
	if !samePublicKey(key.public, row.PublicKey) {
		return nil, errors.New("its public and private parts do not belong together")
	}
	key.created, key.active = time.UnixMicro(row.CreatedAt).UTC(), time.UnixMicro(row.ActiveAt).UTC()
	key.retired, key.removed = timeOf(row.RetiredAt), timeOf(row.RemovedAt)
	return key, nil
}

// unsealSigningKey returns a row's private key, which fits its algorithm and
// its id.
func unsealSigningKey(row signingKeyRow, master *seal.Master) (crypto.Signer, error) {
	encoded, err := master.Open(row.PrivateKey, signingKeyName(row.ID))
	if errors.Is(err, seal.ErrWrongKey) {
		return nil, fmt.Errorf("%w: give this instance the master key (TOLLGATE_MASTER_KEY, or the master key file) "+
			"that this database was first started with, or the new one if it was sealed again since; "+
			AfterLoss, err)
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

// errNoSigner: sign-ins wait for EnsureSigningKey.
func errNoSigner() error {
	return fault.New(fault.Unavailable, "NO_SIGNING_KEY", "no signing key is in force yet; try again").After(time.Second)
}
