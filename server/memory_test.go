package main

import (
	"errors"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		flag   string
		cgroup uint64 // 0: there is none
		want   int64  // -1: an error
	}{
		{"auto", 0, 0},
		{"auto", 1000 * mib, 900 * mib},
		{"auto", mib, 0},
		{"auto", 1 << 63, 0}, // what some kernels call no limit
		{"none", 1000 * mib, 0},
		{"512MiB", 1000 * mib, 512 * mib},
		{"1GB", 0, 1_000_000_000},
		{"63MiB", 0, -1},
		{"much", 0, -1},
		{"", 0, -1},
		{"-1MiB", 0, -1},
	} {
		got, err := memoryLimit(c.flag, func() (uint64, error) {
			if c.cgroup == 0 {
				return 0, errors.New("no cgroup")
			}
			return c.cgroup, nil
		})
		if c.want == -1 && err == nil || c.want != -1 && (err != nil || got != c.want) {
			t.Errorf("%q in a cgroup of %d: %d, %v; want %d", c.flag, c.cgroup, got, err, c.want)
		}
	}
}
