package sinks

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/audit/exportfile"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/clock"
)

// open makes a file sink from its options.
func openFile(t testing.TB, path, options string) *fileSink {
	t.Helper()
	targets, err := Parse([]string{"test=file:" + path + "#" + options}, env(clock.Real()))
	backendtest.Must(t, err)
	sink, err := targets[0].Open()
	backendtest.Must(t, err)
	t.Cleanup(func() { sink.Close() })
	return sink.(*fileSink)
}

// batch is one of events whose lines have about 400 bytes.
func batch(from, until int64) Batch {
	b := Batch{Sink: "test", From: from, Until: until}
	for leaf := from; leaf < until; leaf++ {
		b.Entries = append(b.Entries, audit.Entry{Leaf: leaf, Event: audit.Event{
			ID: fmt.Sprint("id-", leaf), Time: start.Add(time.Duration(leaf) * time.Second), Action: "test.event", Outcome: audit.Success, Resource: strings.Repeat("x", 100),
		}})
	}
	return b
}

// leavesOf are the leaves in a file.
func leavesOf(t testing.TB, path, format string) (all []int64) {
	t.Helper()
	text, err := os.ReadFile(path)
	backendtest.Must(t, err)
	for line := range bytes.Lines(text) {
		leaf, err := exportfile.Leaf(line, format)
		if err != nil || line[len(line)-1] != '\n' {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		all = append(all, leaf)
	}
	return all
}

func wantLeaves(t testing.TB, got []int64, from, until int64) {
	t.Helper()
	var want []int64
	for leaf := from; leaf < until; leaf++ {
		want = append(want, leaf)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("leaves %v, want %d to %d", got, from, until)
	}
}

// TestFileKilled cuts the file after every few bytes of a batch, as a kill does, and
// delivers the batch again: each leaf is there once, on a whole line.
func TestFileKilled(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"ndjson", "ocsf"} {
		path := filepath.Join(t.TempDir(), "audit")
		backendtest.Must(t, openFile(t, path, "format="+format).Deliver(t.Context(), batch(0, 3)))
		confirmed, err := os.ReadFile(path)
		backendtest.Must(t, err)
		backendtest.Must(t, openFile(t, path, "format="+format).Deliver(t.Context(), batch(3, 7)))
		whole, err := os.ReadFile(path)
		backendtest.Must(t, err)
		for cut := len(confirmed); cut <= len(whole); cut += 13 {
			backendtest.Must(t, os.WriteFile(path, whole[:cut], 0o600))
			again := batch(3, 7)
			again.Repeated = true
			backendtest.Must(t, openFile(t, path, "format="+format).Deliver(t.Context(), again))
			got, err := os.ReadFile(path)
			backendtest.Must(t, err)
			if !bytes.Equal(got, whole) {
				t.Fatalf("%s, cut after %d bytes: %s", format, cut, got)
			}
		}
	}
}

// TestFileRotates checks which files there are, and that a kill between two of the steps
// of a rotation loses none.
func TestFileRotates(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit")
	f := openFile(t, path, "rotate=64KB&keep=3")
	leaf := int64(0)
	for range 10 {
		backendtest.Must(t, f.Deliver(t.Context(), batch(leaf, leaf+100)))
		leaf += 100
	}
	files, err := filepath.Glob(path + "*")
	backendtest.Must(t, err)
	backendtest.Equal(t, fmt.Sprint(files), fmt.Sprint([]string{path, path + ".1", path + ".2", path + ".3"}), "files")
	var all []int64
	for n := 3; n >= 0; n-- {
		name := path
		if n > 0 {
			name += "." + strconv.Itoa(n)
		}
		info, err := os.Stat(name)
		backendtest.Must(t, err)
		if info.Size() > 64_000 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has %d bytes, mode %v", name, info.Size(), info.Mode())
		}
		all = append(all, leavesOf(t, name, "ndjson")...)
	}
	wantLeaves(t, all, all[0], leaf)

	// Killed when everything but the current file was renamed, after it was renamed, and
	// after the next one was made.
	backendtest.Must(t, f.Close())
	for _, file := range []string{path, ""} {
		backendtest.Must(t, os.Rename(path+".2", path+".3"))
		backendtest.Must(t, os.Rename(path+".1", path+".2"))
		if file != "" {
			backendtest.Must(t, os.Rename(path, path+".1"))
		}
		again := batch(leaf-50, leaf+50)
		again.Repeated = true
		f = openFile(t, path, "rotate=64KB&keep=3")
		if file != "" {
			backendtest.Must(t, f.Deliver(t.Context(), again))
			wantLeaves(t, leavesOf(t, path, "ndjson"), leaf, leaf+50)
		} else {
			backendtest.Must(t, f.Deliver(t.Context(), batch(leaf, leaf+400))) // it rotates again
		}
		leaf += 50
	}
	wantLeaves(t, append(append(leavesOf(t, path+".2", "ndjson"), leavesOf(t, path+".1", "ndjson")...), leavesOf(t, path, "ndjson")...),
		leavesOf(t, path+".2", "ndjson")[0], leaf+350)
}

// TestFileMoved checks that a file which logrotate moved, or somebody removed, is made
// anew, and that one which was copied and cut goes on.
func TestFileMoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "audit")
	f := openFile(t, path, "mode=0640")
	backendtest.Must(t, f.Deliver(t.Context(), batch(0, 10)))
	backendtest.Must(t, os.Rename(path, path+"-20260301"))
	backendtest.Must(t, f.Deliver(t.Context(), batch(10, 20)))
	wantLeaves(t, leavesOf(t, path+"-20260301", "ndjson"), 0, 10)
	wantLeaves(t, leavesOf(t, path, "ndjson"), 10, 20)
	backendtest.Must(t, os.Remove(path))
	backendtest.Must(t, f.Deliver(t.Context(), batch(20, 30)))
	wantLeaves(t, leavesOf(t, path, "ndjson"), 20, 30)
	backendtest.Must(t, os.Truncate(path, 0))
	backendtest.Must(t, f.Deliver(t.Context(), batch(30, 40)))
	wantLeaves(t, leavesOf(t, path, "ndjson"), 30, 40)
	info, err := os.Stat(path)
	backendtest.Must(t, err)
	backendtest.Equal(t, info.Mode().Perm(), 0o640, "mode")
}

// TestFileOfAnother checks that nothing is added to a file of somebody else's, and that
// a file which knows later leaves, such as one of another database, swallows none.
func TestFileOfAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit")
	for _, foreign := range []string{"root:x:0:0\n", "a master key", "{", `{"class_uid":1`} {
		backendtest.Must(t, os.WriteFile(path, []byte(foreign), 0o600))
		err := openFile(t, path, "").Deliver(t.Context(), batch(0, 1))
		text, _ := os.ReadFile(path)
		if foreign == "{" { // as a kill leaves it
			backendtest.Must(t, err)
			wantLeaves(t, leavesOf(t, path, "ndjson"), 0, 1)
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "is not this sink's") {
			t.Errorf("a foreign file: %v", err)
		}
		backendtest.Equal(t, string(text), foreign, "it is")
	}

	backendtest.Must(t, os.Remove(path))
	f := openFile(t, path, "")
	backendtest.Must(t, f.Deliver(t.Context(), batch(5000, 5001)))
	again := batch(0, 10)
	again.Repeated = true
	backendtest.Must(t, f.Deliver(t.Context(), again))
	wantLeaves(t, leavesOf(t, path, "ndjson")[1:], 0, 10)

	other := batch(0, 10) // of a database that began anew
	other.Repeated = true
	for i := range other.Entries {
		other.Entries[i].ID = "another"
	}
	backendtest.Must(t, f.Deliver(t.Context(), other))
	wantLeaves(t, leavesOf(t, path, "ndjson")[11:], 0, 10)
	backendtest.Must(t, f.Deliver(t.Context(), other)) // whose answer the database lost
	backendtest.Equal(t, len(leavesOf(t, path, "ndjson")), 21, "lines")

	if err := openFile(t, t.TempDir(), "").Deliver(t.Context(), batch(0, 1)); err == nil {
		t.Error("a folder was taken")
	}
	if err := openFile(t, filepath.Join(path, "below"), "").Deliver(t.Context(), batch(0, 1)); err == nil {
		t.Error("a folder that is not there was taken")
	}
}

// TestFileFollowsTheLog drives a file through kills that lose what is in memory.
func TestFileFollowsTheLog(t *testing.T) {
	onDatabases(t, func(t *testing.T, f *fixture) {
		path := filepath.Join(t.TempDir(), "audit")
		for range 5 {
			f.add(t, 230)
			to := openFile(t, path, "rotate=64KB&keep=100")
			doomed := f.instance(target(&dyingSink{to, 2}))
			kill(t, func() { drain(t, doomed) })
			f.fake.Advance(lease + time.Second)
		}
		drain(t, f.instance(target(openFile(t, path, "rotate=64KB&keep=100"))))
		var all []int64
		files, err := filepath.Glob(path + ".*")
		backendtest.Must(t, err)
		for n := len(files); n > 0; n-- {
			all = append(all, leavesOf(t, path+"."+strconv.Itoa(n), "ndjson")...)
		}
		wantLeaves(t, append(all, leavesOf(t, path, "ndjson")...), 0, int64(f.written))
	})
}

// dyingSink is killed in the middle of its last batch.
type dyingSink struct {
	*fileSink
	left int
}

func (d *dyingSink) Deliver(ctx context.Context, b Batch) error {
	if d.left--; d.left > 0 {
		return d.fileSink.Deliver(ctx, b)
	}
	half := b
	half.Entries = b.Entries[:len(b.Entries)/2]
	if err := d.fileSink.Deliver(ctx, half); err != nil {
		return err
	}
	text := d.line(nil, &b.Entries[len(b.Entries)/2])
	d.file.Write(text[:len(text)/2])
	panic(killed)
}
