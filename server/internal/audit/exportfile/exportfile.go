// Package exportfile reads files of exported events: up to where they are whole, and which
// leaf comes last.
package exportfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
)

// maxLine is more bytes than a line of an export has.
const maxLine = 1 << 20

// Last is the last whole line of a file of this size, and where it ends; 0 when there is
// none.
func Last(file io.ReaderAt, size int64) (end int64, line []byte, err error) {
	from := max(0, size-maxLine)
	tail := make([]byte, size-from)
	if _, err := file.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return 0, nil, err
	}
	stop := bytes.LastIndexByte(tail, '\n')
	if stop < 0 {
		if from > 0 {
			return 0, nil, errors.New("its last line is longer than a line of an export")
		}
		return 0, nil, nil
	}
	line = tail[:stop]
	return from + int64(stop) + 1, line[bytes.LastIndexByte(line, '\n')+1:], nil
}

// LastRecord is Last for CSV, where a line may end inside of quotes: only who reads
// from the start knows which do.
func LastRecord(file io.Reader) (end int64, record []byte, err error) {
	in := bufio.NewReaderSize(file, 1<<20)
	var open bool
	var at int64
	var current []byte
	for {
		piece, err := in.ReadSlice('\n')
		at += int64(len(piece))
		if current = append(current, piece...); len(current) > maxLine {
			return 0, nil, errors.New("it has a record that is longer than one of an export")
		}
		open = open != (bytes.Count(piece, []byte{'"'})%2 == 1)
		switch {
		case errors.Is(err, io.EOF):
			return end, record, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return 0, nil, err
		case !open:
			end, record, current = at, append(record[:0], current...), current[:0]
		}
	}
}

// beginnings are what the first line of a file begins with.
var beginnings = map[string]string{"ndjson": `{"leaf":`, "ocsf": `{"class_uid":`, "csv": "leaf,id,"}

// Begun says whether a file without a whole line is an export in the format that was
// interrupted: what it has is the beginning of one, or the zeros that a loss of power leaves.
// All of it may be cut off then. One of somebody else must not be.
func Begun(file io.ReaderAt, format string) (bool, error) {
	begins := []byte(beginnings[format])
	first := make([]byte, len(begins))
	n, err := file.ReadAt(first, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bytes.HasPrefix(begins, first[:n]) || len(bytes.Trim(first[:n], "\x00")) == 0, nil
}

// Leaf is the leaf of a line of the format ndjson, ocsf or csv; -1 of CSV's header.
func Leaf(line []byte, format string) (int64, error) {
	switch format {
	case "csv":
		first, _, _ := bytes.Cut(line, []byte{','})
		if string(first) == "leaf" {
			return -1, nil
		}
		return strconv.ParseInt(string(first), 10, 64)
	case "ocsf":
		var event struct{ Metadata struct{ Sequence *int64 } }
		if err := json.Unmarshal(line, &event); err != nil || event.Metadata.Sequence == nil {
			return 0, errors.Join(errors.New("its last line has no metadata.sequence"), err)
		}
		return *event.Metadata.Sequence, nil
	default:
		var event struct{ Leaf *int64 }
		if err := json.Unmarshal(line, &event); err != nil || event.Leaf == nil {
			return 0, errors.Join(errors.New("its last line has no leaf"), err)
		}
		return *event.Leaf, nil
	}
}
