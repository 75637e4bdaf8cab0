package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// maxLine is more bytes than a line of an export has.
const maxLine = 1 << 20

// openExport opens the file of an export, which only its owner may read, and says which
// leaf comes next. With resume it cuts off what comes after the last whole line.
func openExport(path, format string, resume bool) (file *os.File, next int64, err error) {
	flags := os.O_RDWR | os.O_CREATE | os.O_EXCL
	if resume {
		flags = os.O_RDWR | os.O_CREATE
	}
	file, err = os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, 0, fmt.Errorf("%s is there already; --resume goes on with it, or choose another name", path)
	}
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() { // a pipe, say, has no last line
		if err == nil && resume {
			err = fmt.Errorf("%s is not a file, so it does not say where to go on", path)
		}
		return file, 0, err
	}
	end, last, err := lastLine(file, info.Size(), format == "csv")
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	if end > 0 {
		if next, err = leafOf(last, format); err != nil {
			return nil, 0, fmt.Errorf("%s is no export as %s: %w; choose another name", path, format, err)
		}
		if next++; next == 0 { // only a header, which comes again
			end = 0
		}
	}
	if err := file.Truncate(end); err != nil {
		return nil, 0, err
	}
	_, err = file.Seek(end, io.SeekStart)
	return file, next, err
}

// lastLine is the last whole line of a file, and where it ends.
func lastLine(file *os.File, size int64, quoted bool) (end int64, line []byte, err error) {
	if quoted {
		return lastRecord(file)
	}
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

// lastRecord is lastLine for CSV, where a line may end inside of quotes: only who reads
// from the start knows which do.
func lastRecord(file *os.File) (end int64, record []byte, err error) {
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

// leafOf is the leaf of an export's line, -1 for CSV's header.
func leafOf(line []byte, format string) (int64, error) {
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
