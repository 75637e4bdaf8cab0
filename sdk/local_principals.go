package tollgate

import (
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/internal/jose"
)

// known is a principal as Tollgate has verified it.
type known struct {
	key       knownKey
	principal Principal // never leaves this process's decisions: callers get copies
	tokenID   string    // of a token that an API key was traded for
	revision  int64     // it is at least as new as this
	learnt    instant   // when the call began that verified it
	goodFor   time.Duration

	shown atomic.Pointer[Decision]
}

// knownKey is a credential by the hash of all of it, or a user by the id.
type knownKey struct {
	hash   tokenHash
	userID string
}

func keyOf(r *AuthorizeRequest) knownKey {
	if r.UserID != "" {
		return knownKey{userID: r.UserID}
	}
	// The compiler copies a string that is converted to bytes; this does not.
	return knownKey{hash: sha256.Sum256(unsafe.Slice(unsafe.StringData(r.Credential), len(r.Credential)))} //nolint:gosec // it is only read, and before the string can go
}

// decision returns the decision that allows a call at a revision. It is the one that
// was returned before unless a caller has changed that.
func (k *known) decision(revision int64) *Decision {
	d := k.shown.Load()
	if d == nil || d.Revision != revision || !d.allows(&k.principal) {
		p := k.principal.clone()
		d = &Decision{Allowed: true, Reason: ReasonOK, Principal: &p, Revision: revision}
		k.shown.Store(d)
	}
	return d
}

// decisionBy is decision for a call that a grant with a condition allowed.
func (k *known) decisionBy(revision int64, by *grant) *Decision {
	d := k.decision(revision)
	if by == nil {
		return d
	}
	named := *d
	named.Grant = by.String()
	return &named
}

// allows reports whether the decision says nothing but that p may.
func (d *Decision) allows(p *Principal) bool {
	q := d.Principal
	return d.Allowed && d.Reason == ReasonOK && d.RetryAfter == 0 && d.Limits == nil && d.Grant == "" && d.goodFor == 0 && q != nil &&
		q.UserID == p.UserID && q.Username == p.Username && q.Service == p.Service && q.SessionID == p.SessionID &&
		q.APIKeyID == p.APIKeyID && q.Audience == p.Audience && q.ExpiresAt.Equal(p.ExpiresAt) && q.AuthTime.Equal(p.AuthTime) &&
		slices.Equal(q.Roles, p.Roles) && slices.Equal(q.Scopes, p.Scopes) && slices.Equal(q.Amr, p.Amr)
}

func (p Principal) clone() Principal {
	p.Roles, p.Scopes, p.Amr = slices.Clone(p.Roles), slices.Clone(p.Scopes), slices.Clone(p.Amr)
	return p
}

// about are the things whose changes concern the principal.
func (k *known) about() [4]revocation {
	return [...]revocation{
		{ofUser, k.principal.UserID}, {ofSession, k.principal.SessionID}, {ofAPIKey, k.principal.APIKeyID}, {ofToken, k.tokenID},
	}
}

// principals are those that were learnt from answers, as long as nothing has changed
// about them.
type principals struct {
	shards [32]struct {
		mu    sync.RWMutex
		known generations[knownKey, *known]
	}
	perShard int // of one generation

	mu     sync.Mutex // taken before that of a shard
	about  map[revocation]map[*known]struct{}
	begun  int                            // which stream the policy comes from
	floor  int64                          // answers that are older are not kept
	last   generations[revocation, int64] // when something changed last, after floor
	newest int64                          // the latest of these
	older  int64                          // the latest of the older generation
}

// maxLast is how many changes are remembered for answers that are under way.
const maxLast = 1 << 15

func newPrincipals(most int) *principals {
	p := &principals{about: map[revocation]map[*known]struct{}{}, last: newGenerations[revocation, int64]()}
	p.perShard = max(1, most/2/len(p.shards))
	p.clear()
	return p
}

// clear forgets everybody. The lock is held, or not yet needed.
func (p *principals) clear() {
	for i := range p.shards {
		shard := &p.shards[i]
		shard.mu.Lock()
		shard.known = newGenerations[knownKey, *known]()
		shard.mu.Unlock()
	}
	clear(p.about)
}

func (p *principals) shard(key *knownKey) int {
	if key.userID != "" {
		return int(key.userID[len(key.userID)-1]) % len(p.shards)
	}
	return int(key.hash[0]) % len(p.shards)
}

// find returns whose the request's credential is; nil when that is not known.
func (p *principals) find(r *AuthorizeRequest) *known {
	key := keyOf(r)
	shard := &p.shards[p.shard(&key)]
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	found, _ := shard.known.get(key)
	return found
}

// asked is when a call began: at an instant, and by which stream's policy.
type asked struct {
	at    instant
	begun int
}

func (p *principals) begin(now time.Time) asked {
	p.mu.Lock()
	defer p.mu.Unlock()
	return asked{instantOf(now), p.begun}
}

// learn keeps the principal of an answer, unless something may have changed about it
// since: the instance that answered may be behind the one that tells of changes.
func (p *principals) learn(r *AuthorizeRequest, d *Decision, when asked) {
	if d.goodFor <= 0 || d.Principal == nil || r.UserID != "" && r.UserID != d.Principal.UserID {
		return
	}
	k := &known{key: keyOf(r), principal: d.Principal.clone(), revision: d.Revision, learnt: when.at, goodFor: d.goodFor}
	if k.principal.APIKeyID != "" && kindOf(r.Credential) == accessToken {
		if k.tokenID = tokenIDOf(r.Credential); k.tokenID == "" {
			return // it could not be dropped
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if when.begun != p.begun || d.Revision < p.floor {
		return
	}
	for _, thing := range k.about() {
		if changed, _ := p.last.get(thing); thing.id != "" && d.Revision < changed {
			return
		}
	}
	p.add(k)
}

// add keeps a principal instead of the one before, and forgets the oldest when there
// are too many. The lock is held.
func (p *principals) add(k *known) {
	shard := &p.shards[p.shard(&k.key)]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if before, found := shard.known.get(k.key); found {
		shard.known.delete(k.key)
		p.unlink(before)
	}
	if len(shard.known.young) >= p.perShard {
		for _, old := range shard.known.old {
			p.unlink(old)
		}
		shard.known.rotate()
	}
	shard.known.set(k.key, k)
	for _, thing := range k.about() {
		if thing.id == "" {
			continue
		}
		if p.about[thing] == nil {
			p.about[thing] = map[*known]struct{}{}
		}
		p.about[thing][k] = struct{}{}
	}
}

func (p *principals) unlink(k *known) {
	for _, thing := range k.about() {
		if delete(p.about[thing], k); len(p.about[thing]) == 0 {
			delete(p.about, thing)
		}
	}
}

// restart forgets everybody: what changed before the snapshot of a new stream is not
// known. Answers to calls that began before are not kept either.
func (p *principals) restart(revision int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.begun++
	p.floor, p.last = revision, newGenerations[revocation, int64]()
	p.newest, p.older = revision, revision
}

// forget drops whom a message is about.
func (p *principals) forget(m *tollgatev1.WatchPolicyResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	revision := m.GetRevision()
	if m.GetEverybody() {
		p.clear()
		p.floor = max(p.floor, revision)
	}
	for _, list := range [...]struct {
		kind byte
		ids  []string
	}{
		{ofUser, m.GetUserIds()}, {ofSession, m.GetSessionIds()}, {ofAPIKey, m.GetApiKeyIds()}, {ofToken, m.GetTokenIds()},
	} {
		for _, id := range list.ids {
			p.drop(revocation{list.kind, id}, revision)
		}
	}
}

// drop forgets the principals that a thing concerns. The lock is held.
func (p *principals) drop(thing revocation, revision int64) {
	if len(p.last.young) >= maxLast {
		// What the older half knew is forgotten: only answers that are newer are kept.
		p.floor = max(p.floor, p.older)
		p.last.rotate()
		p.older = p.newest
	}
	p.last.set(thing, revision)
	p.newest = max(p.newest, revision)
	for k := range p.about[thing] {
		shard := &p.shards[p.shard(&k.key)]
		shard.mu.Lock()
		shard.known.delete(k.key)
		shard.mu.Unlock()
		p.unlink(k)
	}
}

// tokenIDOf returns the "jti" of an access token that Tollgate has verified; empty
// when it cannot be read.
func tokenIDOf(token string) string {
	t, ok := jose.Cut(token)
	if !ok {
		return ""
	}
	r, ok := t.ReadClaims()
	if !ok {
		return ""
	}
	return r.Text("jti")
}
