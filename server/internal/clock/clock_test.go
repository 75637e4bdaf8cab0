package world

import (
	"bytes"
	"crypto/rand"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestIDsAreUUIDsOfVersion7(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, random := range [][]byte{bytes.Repeat([]byte{0}, 8), bytes.Repeat([]byte{0xff}, 8)} {
		for _, ns := range []int64{0, 1, 999_999, 500_000} {
			w := World{Now: func() time.Time { return time.Unix(1_700_000_000, ns) }, Random: bytes.NewReader(random)}
			if id := w.NewID(); !form.MatchString(id) {
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

func TestIDsSortByTime(t *testing.T) {
	clock := NewClock(time.Date(2026, 1, 1, 0, 0, 0, 999_000_000, time.UTC))
	w := World{Now: clock.Now, Random: rand.Reader}
	var ids []string
	for range 5000 {
		ids = append(ids, w.NewID())
		clock.Advance(250 * time.Nanosecond)
	}
	for range 100 {
		clock.Advance(time.Hour)
		ids = append(ids, w.NewID())
	}
	if !slices.IsSorted(ids) {
		t.Error("a later id sorts before an earlier one")
	}
}

func TestIDsOfOneMomentDiffer(t *testing.T) {
	w := World{Now: NewClock(time.Unix(1, 0)).Now, Random: rand.Reader}
	seen := map[string]bool{}
	for range 10_000 {
		seen[w.NewID()] = true
	}
	if len(seen) != 10_000 {
		t.Errorf("%d of 10000 ids differ", len(seen))
	}
}

func TestBytes(t *testing.T) {
	w := World{Random: strings.NewReader("abcdef")}
	if got := string(w.Bytes(4)); got != "abcd" {
		t.Errorf("got %q", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("went on without randomness")
		}
	}()
	w.Bytes(4)
}

func TestMicros(t *testing.T) {
	w := World{Now: func() time.Time { return time.Unix(2, 345_678_999).In(time.FixedZone("", 3600)) }}
	if got := w.Micros(); got != 2_345_678 {
		t.Errorf("got %d", got)
	}
}

func TestAClockMovesWhenToldTo(t *testing.T) {
	began := time.Unix(100, 0)
	clock := NewClock(began)
	var moving sync.WaitGroup
	for range 100 {
		moving.Go(func() {
			clock.Advance(time.Second)
			if clock.Now().Before(began) {
				panic(errors.New("back in time"))
			}
		})
	}
	moving.Wait()
	if got := clock.Now().Sub(began); got != 100*time.Second {
		t.Errorf("moved by %s", got)
	}
}
