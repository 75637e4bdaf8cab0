package app

import (
	rlcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
)

// descriptors is one descriptor with entries, keys and values in turns.
func descriptors(entries ...string) []*rlcommonv3.RateLimitDescriptor {
	d := &rlcommonv3.RateLimitDescriptor{}
	for i := 0; i < len(entries); i += 2 {
		d.Entries = append(d.Entries, &rlcommonv3.RateLimitDescriptor_Entry{Key: entries[i], Value: entries[i+1]})
	}
	return []*rlcommonv3.RateLimitDescriptor{d}
}
