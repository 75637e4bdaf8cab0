package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/tollgatehq/tollgate/internal/jose"
)

// jwks serves the public keys that verify our access tokens (RFC 7517 §5).
func jwks(current func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		set := current()
		sum := sha256.Sum256(set)
		h := w.Header()
		h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(jose.KeySetMaxAge.Seconds())))
		h.Set("Etag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
		h.Set("Content-Type", "application/jwk-set+json")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(set))
	}
}
