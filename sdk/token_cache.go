package tollgate

import (
	"crypto/sha256"
	"sync"
)

// tokenCache holds the claims of tokens whose signature was good, by the hash of
// the whole token. It holds maxTokens at most, and keeps those that are used.
type tokenCache struct {
	shards [16]struct {
		mu     sync.RWMutex
		tokens generations[tokenHash, *claims]
	}
}

type tokenHash [sha256.Size]byte

const maxTokens = 50_000

func newTokenCache() *tokenCache {
	c := &tokenCache{}
	for i := range c.shards {
		c.shards[i].tokens = newGenerations[tokenHash, *claims]()
	}
	return c
}

func (c *tokenCache) get(hash tokenHash) *claims {
	shard := &c.shards[hash[0]%16]
	shard.mu.RLock()
	known, young := shard.tokens.young[hash]
	if !young {
		known = shard.tokens.old[hash]
	}
	shard.mu.RUnlock()
	if known != nil && !young {
		c.add(hash, known)
	}
	return known
}

func (c *tokenCache) add(hash tokenHash, found *claims) {
	shard := &c.shards[hash[0]%16]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if len(shard.tokens.young) >= maxTokens/2/len(c.shards) {
		shard.tokens.rotate()
	}
	shard.tokens.set(hash, found)
}
