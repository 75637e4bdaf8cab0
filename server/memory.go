package main

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/dustin/go-humanize"
)

const (
	// leastMemory is what the server needs to be of use.
	leastMemory = 64 << 20
	// roomyGC is GOGC where a limit is in force: the collector runs a quarter as
	// often, until the heap comes near the limit.
	roomyGC = 400
)

// limitMemory has the runtime keep the program's memory below --memory-limit or,
// without it, nine tenths of what the cgroup has. It is no hard limit: near it the
// garbage collector runs as often as it must. GOMEMLIMIT and GOGC of the environment
// win.
func limitMemory(flag string, log *slog.Logger) error {
	limit, err := memoryLimit(flag, memlimit.FromCgroup)
	if err != nil || limit == 0 {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(roomyGC)
	}
	log.Info("memory is limited", "limit", humanize.IBytes(uint64(debug.SetMemoryLimit(-1))))
	return nil
}

// memoryLimit is the limit in bytes; 0: none.
func memoryLimit(flag string, cgroup func() (uint64, error)) (int64, error) {
	switch flag {
	case "none":
		return 0, nil
	case "auto":
		has, err := cgroup()
		if err != nil || has < leastMemory || has > math.MaxInt64 { // no cgroup, no limit, or not Linux
			return 0, nil //nolint:nilerr // the runtime's defaults are good
		}
		return int64(has / 10 * 9), nil
	}
	limit, err := humanize.ParseBytes(flag)
	if err != nil || limit < leastMemory || limit > math.MaxInt64 {
		return 0, fmt.Errorf("--memory-limit must be auto, none or a size of at least %s such as 512MiB, not %q", humanize.IBytes(leastMemory), flag)
	}
	return int64(limit), nil
}
