// Package resources keeps what conditions read of the things that calls are about,
// by type and id.
package resources

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// The bounds of a name, so that "type/id" fits where Authorize takes it.
const (
	maxType = 64  // bytes
	maxID   = 191 // bytes
)

// cachedWeight bounds what is kept in memory: as many resources with small
// attributes, or the fewer the larger their attributes are.
const cachedWeight = 200_000

// Resource is a thing that calls are about.
type Resource struct {
	Type, ID             string
	Attributes           map[string]any // nil: none
	CreatedAt, UpdatedAt time.Time
}

// Name is the resource as Authorize names it.
func (r Resource) Name() string { return r.Type + "/" + r.ID }

// key is a resource in the cache.
type key struct{ kind, id string }

// keyOf reads a name; an id may have slashes.
func keyOf(name string) key {
	kind, id, _ := strings.Cut(name, "/")
	return key{kind, id}
}

// check returns the error of the first part that no resource can have.
func (k key) check() error {
	switch {
	case !validType(k.kind):
		return fault.Field("type", `must be 1 to %d lower-case letters, digits, ".", "_" or "-"`, maxType)
	case !validID(k.id):
		return fault.Field("id", "must be 1 to %d bytes of UTF-8 without control characters", maxID)
	}
	return nil
}

func (k key) valid() bool { return validType(k.kind) && validID(k.id) }

func validType(kind string) bool {
	for i := range len(kind) {
		switch c := kind[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return kind != "" && len(kind) <= maxType
}

func validID(id string) bool {
	return id != "" && len(id) <= maxID && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}
