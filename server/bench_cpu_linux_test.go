package main_test

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the processor time that a process has taken, user and system, of all
// its threads (clock_getcpuclockid(3): to the nanosecond, where /proc counts in
// ticks of 10 ms).
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED of the kernel's posix-timers_types.h
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|scheduler), &ts)
	return time.Duration(ts.Nano()), err
}
