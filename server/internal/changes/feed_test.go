package changes

import "testing"

// TestSlowWatcher: one that does not read is dropped, and delays no other.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	var f Feed[int]
	slow := f.Join()
	for i := range watcherBuffer + 1 {
		f.Send(i)
	}
	if f.Watched() {
		t.Error("it is still watched")
	}
	n := 0
	for range slow {
		n++
	}
	if n != watcherBuffer {
		t.Errorf("%d messages before the end, want %d", n, watcherBuffer)
	}
	f.Leave(slow) // once more is no harm
}
