package auditlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// TileHeight is the height of tiles, and TileWidth how many hashes a full one has
// (https://c2sp.org/tlog-tiles).
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight
)

// MaxEntry is how many bytes an entry of a bundle has at most.
const MaxEntry = 1<<16 - 1

// Tile names a tile, or a bundle of entries, under the path of a log.
type Tile struct {
	Entries bool // of entries; Level is 0
	Level   int  // 0 to 63
	N       int64
	Width   int // 1 to 256, which is a full one
}

// Path is the tile's path: "tile/0/x001/x234/067.p/8", "tile/entries/000".
func (t Tile) Path() string {
	level := strconv.Itoa(t.Level)
	if t.Entries {
		level = "entries"
	}
	n, path := t.N, fmt.Sprintf("%03d", t.N%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if t.Width != TileWidth {
		path += ".p/" + strconv.Itoa(t.Width)
	}
	return "tile/" + level + "/" + path
}

// ParseTile reads a path as Path writes it, and no other spelling of it.
func ParseTile(path string) (Tile, error) {
	bad := fmt.Errorf("%q is not the path of a tile (https://c2sp.org/tlog-tiles): tile/LEVEL/N, such as tile/0/x001/234, or tile/entries/N", path)
	rest, ok := strings.CutPrefix(path, "tile/")
	level, rest, found := strings.Cut(rest, "/")
	if !ok || !found || len(path) > 64 {
		return Tile{}, bad
	}
	t := Tile{Width: TileWidth}
	var err error
	if level == "entries" {
		t.Entries = true
	} else if t.Level, err = strconv.Atoi(level); err != nil || t.Level < 0 || t.Level > 63 {
		return Tile{}, bad
	}
	if before, width, partial := strings.Cut(rest, ".p/"); partial {
		rest = before
		if t.Width, err = strconv.Atoi(width); err != nil || t.Width < 1 || t.Width >= TileWidth {
			return Tile{}, bad
		}
	}
	for group := range strings.SplitSeq(rest, "/") {
		digits, err := strconv.Atoi(strings.TrimPrefix(group, "x"))
		if err != nil || digits < 0 || digits > 999 || t.N > 1<<50 {
			return Tile{}, bad
		}
		t.N = t.N*1000 + int64(digits)
	}
	if t.Path() != path || t.N >= 1<<54 { // no tree is as large, and beyond it overflows
		return Tile{}, bad
	}
	return t, nil
}

// Hashes reads hashes of a tree from tiles. read returns a tile's data, 32 bytes a hash,
// of at least the width asked for.
func Hashes(read func(Tile) ([]byte, error)) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		have := map[Tile][]byte{}
		for i, index := range indexes {
			t := tlog.TileForIndex(TileHeight, index)
			name := Tile{Level: t.L, N: t.N, Width: t.W}
			data, ok := have[Tile{Level: t.L, N: t.N}]
			if !ok || len(data) < t.W*tlog.HashSize {
				var err error
				if data, err = read(name); err != nil {
					return nil, err
				}
				have[Tile{Level: t.L, N: t.N}] = data
			}
			var err error
			if hashes[i], err = tlog.HashFromTile(t, data, index); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	})
}

// AppendEntry appends an entry, of at most MaxEntry bytes, to a bundle. An entry without bytes was removed; its hash
// is in the tile of level 0.
func AppendEntry(b, entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(entry))), entry...)
}

// SplitEntries are a bundle's entries.
func SplitEntries(b []byte) (entries [][]byte, err error) {
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, errors.New("a bundle of entries is cut off")
		}
		n := int(binary.BigEndian.Uint16(b))
		entries = append(entries, b[2:2+n])
		b = b[2+n:]
	}
	return entries, nil
}
