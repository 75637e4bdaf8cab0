package clock

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestNewIDIsUUIDv7(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, ns := range []int64{0, 1, 999_999, 500_000} {
		clk := Clock{Now: func() time.Time { return time.Unix(1_700_000_000, ns) }}
		for range 100 {
			if id := clk.NewID(); !form.MatchString(id) {
				t.Errorf("%s at %d ns", id, ns)
			}
		}
	}
	real := Real()
	before := time.Now().UnixMilli()
	id := real.NewID()
	after := time.Now().UnixMilli()
	ms, err := strconv.ParseInt(strings.ReplaceAll(id, "-", "")[:12], 16, 64)
	if err != nil || ms < before || ms > after {
		t.Errorf("%s holds %d ms, not in [%d, %d]", id, ms, before, after)
	}
}

func TestNewIDSortsByTime(t *testing.T) {
	fake := NewFake(time.Date(2026, 1, 1, 0, 0, 0, 999_000_000, time.UTC))
	clk := fake.Clock()
	var ids []string
	for range 5000 {
		ids = append(ids, clk.NewID())
		fake.Advance(250 * time.Nanosecond)
	}
	for range 100 {
		fake.Advance(time.Hour)
		ids = append(ids, clk.NewID())
	}
	if !slices.IsSorted(ids) {
		t.Error("a later id sorts before an earlier one")
	}
}

func TestNewIDIsUnique(t *testing.T) {
	clk := NewFake(time.Unix(1, 0)).Clock()
	seen := map[string]bool{}
	for range 10_000 {
		seen[clk.NewID()] = true
	}
	if len(seen) != 10_000 {
		t.Errorf("%d of 10000 ids differ", len(seen))
	}
}

func TestMicros(t *testing.T) {
	clk := Clock{Now: func() time.Time { return time.Unix(2, 345_678_999).In(time.FixedZone("", 3600)) }}
	if got := clk.Micros(); got != 2_345_678 {
		t.Errorf("got %d", got)
	}
}

func TestFake(t *testing.T) {
	began := time.Unix(100, 0)
	fake := NewFake(began)
	var moving sync.WaitGroup
	for range 100 {
		moving.Go(func() {
			fake.Advance(time.Second)
			if fake.Now().Before(began) {
				panic(errors.New("back in time"))
			}
		})
	}
	moving.Wait()
	if got := fake.Now().Sub(began); got != 100*time.Second {
		t.Errorf("moved by %s", got)
	}
}

func TestInstant(t *testing.T) {
	fake := NewFake(time.Unix(100, 0))
	clk := fake.Clock()
	began := clk.Instant()
	for _, step := range []struct {
		what string
		move func()
		want time.Duration
	}{
		{"a second", func() { fake.Advance(time.Second) }, time.Second},
		{"set back", func() { fake.Set(-time.Hour) }, time.Second},
		{"another second", func() { fake.Advance(time.Second) }, 2 * time.Second},
		{"set right", func() { fake.Set(time.Hour) }, 2 * time.Second},
		{"a minute asleep, in which the monotonic clock stands", func() { fake.Set(time.Minute) }, 62 * time.Second},
	} {
		step.move()
		if got := clk.Instant().Since(began); got != step.want {
			t.Errorf("%s: %s since the start, want %s", step.what, got, step.want)
		}
	}
	real := Real()
	before := time.Now()
	earlier := real.Instant()
	for time.Since(before) < time.Millisecond {
		continue
	}
	passed := real.Instant().Since(earlier)
	if passed <= 0 || passed > time.Since(before)+time.Second {
		t.Errorf("the real clock: %s", passed)
	}
	plain := Clock{Now: fake.Now}
	earlier = plain.Instant()
	fake.Advance(time.Second)
	if got := plain.Instant().Since(earlier); got != time.Second {
		t.Errorf("a clock with nothing but Now: %s", got)
	}
}
