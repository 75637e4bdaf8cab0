package recordings

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// Rules are all recordings, compiled. They do not change, and do no I/O.
type Rules struct {
	seed    string
	samples map[string]int64 // the greatest, by pattern without its "*"
	all     map[string]Recording
}

// newRules compiles recordings. A sample out of bounds, which only another program can
// have written, is all.
func newRules(seed string, all map[string]Recording) *Rules {
	r := &Rules{seed: seed, samples: make(map[string]int64, len(all)), all: all}
	for _, one := range all {
		sample, pattern := one.Sample, strings.TrimSuffix(one.Permission, "*")
		if sample < 1 || sample > All {
			sample = All
		}
		r.samples[pattern] = max(r.samples[pattern], sample)
	}
	return r
}

// Sample says whether a call that asks for any of the permissions, and was allowed, is
// to be recorded, and which sample it is in.
func (r *Rules) Sample(userID string, permissions []string, resource string) (sample int64, recorded bool) {
	for _, permission := range permissions {
		if sample = r.sampleOf(permission); sample > 0 && r.in(sample, userID, permission, resource) {
			return sample, true
		}
	}
	return 0, false
}

// sampleOf is the greatest sample of a recording that matches a permission; 0: none
// does. It looks where perm.Set does: at the permission, and at each prefix that a
// wildcard may stand behind.
func (r *Rules) sampleOf(permission string) int64 {
	sample := max(r.samples[permission], r.samples[""])
	for i := range len(permission) {
		if permission[i] == ':' {
			sample = max(sample, r.samples[permission[:i+1]])
		}
	}
	return sample
}

// in says whether a question is in a sample. It is by a hash that nobody can compute who
// does not know the seed: a caller could otherwise choose what is not recorded.
func (r *Rules) in(sample int64, userID, permission, resource string) bool {
	if sample >= All {
		return true
	}
	h := sha256.New()
	for _, part := range [...]string{r.seed, userID, permission, resource} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))%All < uint64(sample)
}
