package jose

import "time"

// What the server and those who verify its tokens must agree on.
const (
	// ClockSkew is how far apart the clocks of two machines may be: how far in
	// the future a token may have been issued, and how much longer than a token
	// lives it is remembered what was revoked. The end of a token has no leeway.
	ClockSkew = 2 * time.Minute

	// KeySetMaxAge is how long others may keep the key set: the max-age of its
	// Cache-Control, and the age at which the SDK fetches it again.
	KeySetMaxAge = 5 * time.Minute

	// KeyLeadTime is how long a signing key is published before it signs, unless
	// configured: others may keep the key set for KeySetMaxAge, fetching it takes
	// a moment, and an instance whose clock is ahead signs early.
	KeyLeadTime = KeySetMaxAge + ClockSkew + fetchTime

	// AssertionTTL is how long an assertion lives: as long as a proxy may take to
	// pass a request on, and as long as one that was copied can be replayed.
	AssertionTTL = time.Minute

	// MaxTokenTTL is the most that access tokens can be set to live.
	MaxTokenTTL = 24 * time.Hour

	fetchTime = 10 * time.Second
)
