package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/limits"
)

const (
	// maxSessions is how many live sessions a user may have; a new one beyond
	// that ends the oldest.
	maxSessions = 100
	// keepSessions is how long ended sessions, and with them the knowledge of
	// their spent tokens, are kept.
	keepSessions = 30 * 24 * time.Hour

	refreshPrefix = "tgr_"
	refreshSize   = 32 // random bytes
)

// Session is one sign-in on one device: a family of refresh tokens.
type Session struct {
	ID          string
	UserID      string
	CreatedAt   time.Time
	RefreshedAt time.Time
	ExpiresAt   time.Time // the earlier of its idle and its absolute end
	IP          string
	UserAgent   string
}

// Grant is what a sign-in or a refresh hands out.
type Grant struct {
	AccessToken  string
	RefreshToken string
	ExpiresIn    time.Duration // of the access token, whole seconds
	SessionID    string
	UserID       string

	// PasswordChangeRequired: the access token is good for SetPassword only.
	PasswordChangeRequired bool
}

// Why a session ended, as stored and audited.
const (
	endedByLogout   = "logout"
	endedByRequest  = "revoked"
	endedByReuse    = "refresh_token_reused"
	endedByPassword = "password_changed"
	endedByDisable  = "user_disabled"
	endedByDelete   = "user_deleted"
	endedByNewer    = "too_many_sessions"
	endedByFactor   = "second_factor_confirmed"
)

// newRefreshToken returns a token and the hash to store.
func newRefreshToken() (token string, hash []byte) {
	random := make([]byte, refreshSize)
	rand.Read(random)
	token = refreshPrefix + base64.RawURLEncoding.EncodeToString(random)
	return token, hashToken(token)
}

// hashToken needs no salt and no stretching: a token has 256 random bits.
func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// isRefreshToken says whether the text has the form of a token of ours.
func isRefreshToken(token string) bool {
	text, ok := strings.CutPrefix(token, refreshPrefix)
	return ok && len(text) == base64.RawURLEncoding.EncodedLen(refreshSize)
}

// device is where a sign-in or refresh came from, fit for storing. The network
// is what limits count the address under.
func device(c caller.Caller) (ip, network, userAgent string) {
	userAgent = strings.ReplaceAll(strings.ToValidUTF8(c.UserAgent, string(utf8.RuneError)), "\x00", "")
	if c.IP.IsValid() {
		network = limits.IPKey(c.IP)
	}
	return c.IPString(), network, userAgent
}

// endedSessions are the sessions whose access tokens must not be honored any
// more: those that were revoked within the lifetime of an access token.
type endedSessions struct {
	mu     sync.RWMutex
	until  map[string]time.Time // session id -> when its last access token has run out
	pruned time.Time
}

func (e *endedSessions) has(id string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, ok := e.until[id]
	return ok
}

// add remembers a session, and forgets, now and then, those of long ago.
func (e *endedSessions) add(id string, until, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.until == nil {
		e.until = map[string]time.Time{}
	}
	e.until[id] = until
	if now.Sub(e.pruned) < time.Minute {
		return
	}
	e.pruned = now
	for id, until := range e.until {
		if until.Before(now) {
			delete(e.until, id)
		}
	}
}

func (e *endedSessions) replace(until map[string]time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.until = until
}

func sessionUnknown() error {
	return fault.New(fault.NotFound, "SESSION_NOT_FOUND", "the user has no session with this id; list the sessions to find it")
}

func badRefreshToken() error {
	return fault.New(fault.Unauthenticated, "BAD_REFRESH_TOKEN", "the refresh token is unknown or its session has ended; sign in again")
}

func refreshTokenReused() error {
	return fault.New(fault.Unauthenticated, "REFRESH_TOKEN_REUSED",
		"the refresh token was used before, so its session has been ended; sign in again")
}
