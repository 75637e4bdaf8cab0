package auditlog

import (
	"cmp"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// frontier is the part of a growing tree that its root is computed from: at most one hash
// of each level.
type frontier struct {
	size   int64
	levels [64]tlog.Hash // the newest complete subtree of each level
}

// ReadHashes implements tlog.HashReader. What is asked for is always the newest of a level.
func (f *frontier) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		level, _ := tlog.SplitStoredHashIndex(index)
		hashes[i] = f.levels[level]
	}
	return hashes, nil
}

func (f *frontier) append(leaf tlog.Hash) error {
	hashes, err := tlog.StoredHashesForRecordHash(f.size, leaf, f)
	if err != nil {
		return err
	}
	copy(f.levels[:], hashes)
	f.size++
	return nil
}

func (f *frontier) root() (tlog.Hash, error) { return tlog.TreeHash(f.size, f) }

// merge sorts ranges and joins those that meet.
func merge(ranges []Range) []Range {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	var merged []Range
	for _, r := range sorted {
		if last := len(merged) - 1; last >= 0 && r.First <= merged[last].Last+1 {
			merged[last].Last = max(merged[last].Last, r.Last)
		} else {
			merged = append(merged, r)
		}
	}
	return merged
}

// covering is the range that has a leaf, nil when none has.
func covering(sorted []Range, leaf int64) *Range {
	i, found := slices.BinarySearchFunc(sorted, leaf, func(r Range, leaf int64) int { return cmp.Compare(r.First, leaf) })
	if !found {
		i--
	}
	if i < 0 || sorted[i].Last < leaf {
		return nil
	}
	return &sorted[i]
}
