package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tollgatehq/tollgate/server/internal/audit"
	"github.com/tollgatehq/tollgate/server/internal/audit/export"
	"github.com/tollgatehq/tollgate/server/internal/audit/exportfile"
)

// fileSink appends lines to a file, path, and renames it to path.1, path.2 and so on when
// it is large. Who renames or removes it gets a new one in its place.
type fileSink struct {
	path   string
	rotate int64 // bytes of a file at most; 0: it grows
	keep   int   // older files that stay
	mode   fs.FileMode
	format export.Format
	line   func([]byte, *audit.Entry) []byte

	file *os.File // nil: not open
	size int64
	last []byte // the last line in the file; empty: none
}

// Deliver implements Sink. Leaves that the file has already, because it was interrupted,
// are not written again.
func (f *fileSink) Deliver(_ context.Context, b Batch) (err error) {
	defer func() {
		if err != nil { // what the file holds is read again
			err = errors.Join(err, f.Close())
		}
	}()
	if err := f.ready(); err != nil {
		return err
	}
	entries := b.Entries[f.done(b):]
	var text []byte
	for i := range entries {
		before := len(text)
		text = f.line(text, &entries[i])
		if f.rotate > 0 && f.size+int64(len(text)) > f.rotate && f.size+int64(before) > 0 {
			if err := f.write(text[:before]); err != nil {
				return err
			}
			if err := f.shift(); err != nil {
				return err
			}
			text = append(text[:0], text[before:]...)
		}
	}
	if err := f.write(text); err != nil {
		return err
	}
	f.last = f.line(f.last[:0], &b.Entries[len(b.Entries)-1])
	return nil
}

// done is how many events of a batch the file has: those up to its last line. A line
// counts only if it is the same in every byte: one of another log may have the leaf.
func (f *fileSink) done(b Batch) int {
	if len(f.last) == 0 {
		return 0
	}
	leaf, err := exportfile.Leaf(f.last, string(f.format))
	if err != nil {
		return 0
	}
	for i := range b.Entries {
		if b.Entries[i].Leaf == leaf && bytes.Equal(f.line(nil, &b.Entries[i]), f.last) {
			return i + 1
		}
	}
	return 0
}

// ready opens the file, unless it is open and still where it was.
func (f *fileSink) ready() error {
	if f.file != nil {
		open, err := f.file.Stat()
		if err != nil {
			return err
		}
		if there, err := os.Stat(f.path); err == nil && os.SameFile(there, open) {
			f.size = open.Size() // others may have cut it
			return nil
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return f.open()
}

// open opens the file and cuts off the half line that a crash left.
func (f *fileSink) open() error {
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, f.mode)
	if err != nil {
		return err
	}
	f.file = file
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.path)
	}
	end, last, err := exportfile.Last(file, info.Size())
	if err != nil {
		return fmt.Errorf("read %s: %w", f.path, err)
	}
	if f.last, err = f.own(f.path, last); err != nil {
		return err
	}
	if end == 0 {
		if begun, err := exportfile.Begun(file, string(f.format)); err != nil || !begun {
			return errors.Join(err, fmt.Errorf("%s is not this sink's, so nothing is cut off it: it is no event as %s; choose another file", f.path, f.format))
		}
	}
	if end < info.Size() {
		if err := file.Truncate(end); err != nil {
			return err
		}
	}
	if f.size = end; end == 0 { // the last lines may be in the file before
		if err := f.before(); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(f.path)) // it may be new
}

// before reads the last line from the file that was rotated last.
func (f *fileSink) before() error {
	old, err := os.Open(f.older(1))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer old.Close()
	info, err := old.Stat()
	if err != nil {
		return err
	}
	_, last, err := exportfile.Last(old, info.Size())
	if err != nil {
		return fmt.Errorf("read %s: %w", f.older(1), err)
	}
	f.last, err = f.own(f.older(1), last)
	return err
}

// own is a line with its end, which must be an event's; empty for no line.
func (f *fileSink) own(path string, line []byte) ([]byte, error) {
	if len(line) == 0 {
		return nil, nil
	}
	if _, err := exportfile.Leaf(line, string(f.format)); err != nil {
		return nil, fmt.Errorf("%s is not this sink's, so nothing is added to it: its last line is no event as %s; choose another file", path, f.format)
	}
	return append(line, '\n'), nil
}

// write writes lines, and returns when they are on the disk.
func (f *fileSink) write(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	n, err := f.file.Write(text)
	f.size += int64(n)
	if err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *fileSink) older(n int) string { return f.path + "." + strconv.Itoa(n) }

// shift renames the files, the oldest first, so that one that is interrupted overwrites
// none, and opens a new one.
func (f *fileSink) shift() error {
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Remove(f.older(f.keep)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for n := f.keep - 1; n >= 0; n-- {
		from := f.path
		if n > 0 {
			from = f.older(n)
		}
		if err := os.Rename(from, f.older(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return f.open()
}

// Close implements Sink.
func (f *fileSink) Close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}
