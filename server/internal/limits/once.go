package limits

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"sync"
	"time"
)

// onceFor is how long a call with an idempotency key is not counted again: longer than the
// SDK goes on asking, and no longer, because a store keeps each of them for so long.
const onceFor = 10 * time.Second

// memoryOnce is how many such calls a Memory remembers: about 10 MB. When it is
// full of those of the last 10 seconds, further ones are counted again, which is
// stricter.
const memoryOnce = 1 << 17

// mark names a call: its idempotency key, and what it counts, so that a key that is
// used for another call does not let that one pass uncounted.
type mark [16]byte

// markOf is the call's mark; the zero mark for a call without an idempotency key.
func markOf(counts []Count) mark {
	if len(counts) == 0 || counts[0].Once == "" {
		return mark{}
	}
	hash := sha256.New()
	var text []byte
	add := func(part string) {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	add(counts[0].Once)
	for _, c := range counts {
		add(c.Counter)
		add(c.Key)
		text = binary.AppendVarint(text, c.Cost)
	}
	_, _ = hash.Write(text)
	return mark(hash.Sum(nil))
}

// markKey is the mark's key in Redis. Its hash tag has a Redis Cluster keep it with
// the first counter, whose own name holds no brace (see shorten), unless the prefix
// has one: then that is the tag of both.
func (r *Redis) markKey(m mark, first string) string {
	return r.prefix + "once:{" + first + "}:" + base64.RawURLEncoding.EncodeToString(m[:])
}

// marks are calls with an idempotency key that were counted. The zero marks are
// empty.
type marks struct {
	mu    sync.Mutex
	until map[mark]int64 // Unix microseconds
	swept int64          // when all of them were last looked through
}

// of are the marks among which m is.
func (m mark) of(all *[shardCount]marks) *marks { return &all[m[0]%shardCount] }

// holds says whether a call was counted before. The lock is held.
func (s *marks) holds(m mark, now int64) bool { return s.until[m] > now }

// add keeps that a call was counted. The lock is held.
func (s *marks) add(m mark, now int64) {
	const most = memoryOnce / shardCount
	if s.until == nil {
		s.until = map[mark]int64{}
	}
	if len(s.until) >= most && (now-s.swept >= fullSweepEvery || now < s.swept) {
		s.swept = now
		maps.DeleteFunc(s.until, func(_ mark, until int64) bool { return until <= now })
	}
	if len(s.until) < most {
		s.until[m] = now + onceFor.Microseconds()
	}
}
