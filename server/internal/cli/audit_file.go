package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/tollgatehq/tollgate/server/internal/audit/exportfile"
)

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
	var end int64
	var last []byte
	if format == "csv" {
		end, last, err = exportfile.LastRecord(file)
	} else {
		end, last, err = exportfile.Last(file, info.Size())
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	if end == 0 {
		if begun, err := exportfile.Begun(file, format); err != nil || !begun {
			return nil, 0, errors.Join(err, fmt.Errorf("%s is no export as %s; choose another name", path, format))
		}
	} else {
		if next, err = exportfile.Leaf(last, format); err != nil {
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
