package tollgate

import (
	"crypto/sha256"
	"sync"
)

// recent remembers the tokens whose signature was good, by the hash of the
// whole token. It holds maxRecent of them at most, and keeps those that are
// used.
type recent struct {
	shards [16]struct {
		mu     sync.RWMutex
		tokens halves[tokenHash, *claims]
	}
}

type tokenHash [sha256.Size]byte

const maxRecent = 50_000

func newRecent() *recent {
	r := &recent{}
	for i := range r.shards {
		r.shards[i].tokens = newHalves[tokenHash, *claims]()
	}
	return r
}

func (r *recent) get(hash tokenHash) *claims {
	shard := &r.shards[hash[0]%16]
	shard.mu.RLock()
	known, young := shard.tokens.young[hash]
	if !young {
		known = shard.tokens.old[hash]
	}
	shard.mu.RUnlock()
	if known != nil && !young {
		r.add(hash, known)
	}
	return known
}

func (r *recent) add(hash tokenHash, c *claims) {
	shard := &r.shards[hash[0]%16]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if len(shard.tokens.young) >= maxRecent/2/len(r.shards) {
		shard.tokens.rotate()
	}
	shard.tokens.set(hash, c)
}
