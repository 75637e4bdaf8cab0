package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// files are what is served, by path below filesPath. They are in memory, so that no
// path leads anywhere else.
type files map[string]*file

type file struct {
	kind, cache string
	plain       form
	packed      form // empty: not worth it
}

type form struct {
	body []byte
	tag  string
}

const (
	indexName = "index.html"
	assets    = "assets/"

	// packFrom is the size, in bytes, from which a file is compressed.
	packFrom = 1 << 10

	fresh   = "no-cache"
	forever = "public, max-age=31536000, immutable" // the name changes with the content
)

// kinds are the types of what Vite builds. A machine's own table may have others.
var kinds = map[string]string{
	".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".ico": "image/x-icon",
	".js": "text/javascript; charset=utf-8", ".json": "application/json", ".map": "application/json",
	".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
	".webmanifest": "application/manifest+json", ".woff2": "font/woff2",
}

func load(from fs.FS) (files, error) {
	all := files{}
	err := fs.WalkDir(from, ".", func(name string, entry fs.DirEntry, err error) error {
		hidden := name != "." && strings.HasPrefix(path.Base(name), ".")
		switch {
		case err != nil:
			return err
		case hidden && entry.IsDir():
			return fs.SkipDir
		case hidden, entry.IsDir():
			return nil
		}
		kind, known := kinds[path.Ext(name)]
		if !known {
			return fmt.Errorf("the console has the file %s, of a type that is not known here", name)
		}
		body, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		f := &file{kind: kind, cache: fresh, plain: newForm(body)}
		if strings.HasPrefix(name, assets) {
			f.cache = forever
		}
		if len(body) >= packFrom {
			if packed := pack(body); len(packed) < len(body) {
				f.packed = newForm(packed)
			}
		}
		all[name] = f
		return nil
	})
	if err == nil && all[indexName] == nil {
		err = fmt.Errorf("the console has no %s", indexName)
	}
	return all, err
}

func newForm(body []byte) form {
	sum := sha256.Sum256(body)
	return form{body, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
}

func pack(body []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is a constant
	}
	w.Write(body) //nolint:errcheck // to memory
	w.Close()
	return out.Bytes()
}

// serve answers with a file, or with the page for every path that is none: the page
// shows what the path says. What looks like an asset and is none is not found, so that
// no browser takes the page for a script.
func (all files) serve(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, filesPath)
	f := all[name]
	switch {
	case f != nil && name != indexName:
		f.serve(w, r)
	case strings.HasPrefix(name+"/", assets):
		http.NotFound(w, r)
	default:
		all[indexName].serve(w, r)
	}
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h, send := w.Header(), f.plain
	if len(f.packed.body) > 0 {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header) && r.Header.Get("Range") == "" {
			send = f.packed
			h.Set("Content-Encoding", "gzip")
			h.Set("Content-Length", strconv.Itoa(len(send.body)))
		}
	}
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", f.cache)
	h.Set("Etag", send.tag)
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(bytes.NewReader(send.body), 0, int64(len(send.body))))
}

// acceptsGzip reads Accept-Encoding (RFC 9110 §12.5.3).
func acceptsGzip(h http.Header) bool {
	for part := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		coding, weight, weighted := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, isQ := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(weight), " ", ""), "q=")
		n, err := strconv.ParseFloat(q, 64)
		return !weighted || !isQ || err != nil || n > 0
	}
	return false
}
