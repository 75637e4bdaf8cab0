//go:build !linux

package main_test

import (
	"errors"
	"time"
)

func cpuTime(int) (time.Duration, error) {
	return 0, errors.New("make bench reads the processor time of another process, which it can on Linux only")
}
