// Package page reads lists page by page. A page token holds the cursor of the
// page's last item and is authenticated: one that is not of this list and its
// filters is refused.
package page

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// defaultSize is the size of a page when the caller names none.
const defaultSize = 50

// pageSize is the number of items that a request for n gets.
func pageSize(n int32) int {
	if n <= 0 {
		return defaultSize
	}
	return min(int(n), 250)
}

// List reads one page of a list: at most size items that follow the token's
// cursor, and the token of the next page, empty on the last. The list is its
// name together with its filters, so that a token cannot be carried to another
// one. read returns up to n items that follow a cursor, which is the zero C for
// the first page; cursor is an item's own, and must survive JSON.
func List[T, C any](t Tokens, list string, size int32, token string, read func(after C, n int) ([]T, error), cursor func(T) C) (items []T, next string, err error) {
	var after C
	if _, err := t.decode(token, list, &after); err != nil {
		return nil, "", err
	}
	n := pageSize(size)
	items, err = read(after, n+1) // one more, to know whether there is a next page
	if err != nil {
		return nil, "", fmt.Errorf("list %s: %w", list, err)
	}
	if len(items) <= n {
		return items, "", nil
	}
	return items[:n], t.encode(list, cursor(items[n-1])), nil
}

// Tokens makes and reads page tokens under a secret.
type Tokens struct{ secret []byte }

// NewTokens uses a secret of its own: at least 32 bytes.
func NewTokens(secret []byte) Tokens { return Tokens{secret} }

// encode returns the token for a cursor, which is encoded as JSON.
func (t Tokens) encode(list string, cursor any) string {
	body, err := json.Marshal(cursor)
	if err != nil {
		panic("page: " + err.Error()) // cursors are plain structs and texts
	}
	return base64.RawURLEncoding.EncodeToString(append(t.sum(list, body), body...))
}

// decode reads the token into cursor and says whether there was one: an empty
// token is the first page.
func (t Tokens) decode(token, list string, cursor any) (bool, error) {
	if token == "" {
		return false, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < sumSize || !hmac.Equal(raw[:sumSize], t.sum(list, raw[sumSize:])) {
		return false, bad()
	}
	if err := json.Unmarshal(raw[sumSize:], cursor); err != nil {
		return false, bad()
	}
	return true, nil
}

// Sign returns what as text that Read knows to be made here under the name. It is
// authenticated and not secret.
func (t Tokens) Sign(name string, what any) string { return t.encode(name, what) }

// Read reads what Sign made under the name into what, and says whether it was.
func (t Tokens) Read(name, text string, what any) bool {
	there, err := t.decode(text, name, what)
	return there && err == nil
}

const sumSize = 16

func (t Tokens) sum(list string, body []byte) []byte {
	mac := hmac.New(sha256.New, t.secret)
	name := sha256.Sum256([]byte(list)) // of fixed length, so that list and body cannot run together
	mac.Write(name[:])
	mac.Write(body)
	return mac.Sum(nil)[:sumSize]
}

func bad() error {
	return fault.Field("pageToken", "is not from this list with these filters; start again without one")
}

// Scan is List for a list whose items are looked for: read returns up to n items that
// follow a cursor, where it got to, and whether there may be more. It may return
// fewer than n items before the end.
func Scan[T, C any](t Tokens, list string, size int32, token string, read func(after C, n int) (items []T, at C, more bool, err error)) (items []T, next string, err error) {
	var after C
	if _, err := t.decode(token, list, &after); err != nil {
		return nil, "", err
	}
	items, at, more, err := read(after, pageSize(size))
	if err != nil {
		return nil, "", fmt.Errorf("list %s: %w", list, err)
	}
	if !more {
		return items, "", nil
	}
	return items, t.encode(list, at), nil
}
