package sdktest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

// User is a person or a service.
type User struct {
	ID       string // "user-" and the name, when empty
	Name     string
	Password string // empty: cannot sign in
	// SecondFactor is the code that a sign-in must give as well; empty: none.
	SecondFactor string
	Roles        []string
	Attributes   map[string]any // what conditions read
	Service      bool           // a program
	Disabled     bool
	// PasswordChange: the user may do nothing but choose another password.
	PasswordChange bool
}

type apiKey struct {
	id, user string
	scopes   []string
	revoked  bool
}

type session struct {
	user    string // the name
	refresh string // the newest
	revoked bool

	audience string // of all its tokens; empty: of each as a refresh asks for
	amr      []string
	began    time.Time
}

// claims sets a token's claims about the session. An empty audience is the
// session's own or else the server's.
func (s *session) claims(audience string) TokenOption {
	return func(claims map[string]any) {
		claims["aud"] = cmp.Or(audience, s.audience, Audience)
		claims["amr"], claims["auth_time"] = s.amr, s.began.Unix()
	}
}

// Limit allows a number of calls and then none, until it is set again.
type Limit struct {
	Name string
	// Permission is the pattern of what Authorize counts, for each user or, when
	// the user is not known, address; empty: only CheckLimit counts, for each key.
	Permission string
	Calls      int64
	RetryAfter time.Duration // of a refusal; 0: waiting never helps
	// Lease is how long calls that LeaseLimit granted may be used; 0: it grants none.
	Lease time.Duration
}

type counter struct{ limit, key string }

// SetRole adds a role, or replaces it, with the permissions that it grants:
// "orders:read", "orders:*", "*". [Server.SetGrants] adds what has conditions.
func (s *Server) SetRole(name string, permissions ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[name] = permissions
	delete(s.grants, name)
	s.sendPolicy(&tollgatev1.WatchPolicyResponse{Roles: []*tollgatev1.PolicyRole{{Name: name, Allows: permissions}}})
}

// SetUser adds a user, or replaces the one with this name, and returns it with
// its ID. Disabling a user revokes the user's sessions.
func (s *Server) SetUser(u User) User {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.ID == "" {
		u.ID = "user-" + u.Name
	}
	u.Roles = slices.Clone(u.Roles)
	slices.Sort(u.Roles)
	before := s.users[u.Name]
	s.users[u.Name] = u
	message := &tollgatev1.WatchRevocationsResponse{}
	switch {
	case u.Disabled && !before.Disabled:
		message.UserIds = []string{u.ID}
		message.SessionIds = s.revokeSessions(u.Name)
	case !u.Disabled && before.Disabled:
		message.RestoredUserIds = []string{u.ID}
	}
	s.send(message, u.ID)
	return u
}

// SetLimit adds a limit, or replaces it; nothing is used of it then.
func (s *Server) SetLimit(l Limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits[l.Name] = l
	for c := range s.used {
		if c.limit == l.Name {
			delete(s.used, c)
		}
	}
	s.sendPolicy(&tollgatev1.WatchPolicyResponse{Limits: []*tollgatev1.PolicyLimit{l.policy()}})
}

// APIKey issues an API key of a user, narrowed to scopes if there are any. It
// panics when there is no such user.
func (s *Server) APIKey(user string, scopes ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustKnow(user)
	id := s.newID("key")
	secret := "tg_" + id + "_secret"
	s.apiKeys[secret] = apiKey{id: id, user: user, scopes: slices.Clone(scopes)}
	return secret
}

// Revoke revokes a session, one that began here or is only named in a token (see
// [InSession]), and returns the revision for [tollgate.Verifier.Wait].
func (s *Server) Revoke(sessionID string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revokeSession(sessionID)
	return s.send(&tollgatev1.WatchRevocationsResponse{SessionIds: []string{sessionID}})
}

// RevokeAPIKey revokes an API key, given as the secret or the id, and returns the
// revision for [tollgate.Verifier.Wait].
func (s *Server) RevokeAPIKey(key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	message := &tollgatev1.WatchRevocationsResponse{}
	for secret, k := range s.apiKeys {
		if secret == key || k.id == key {
			k.revoked = true
			s.apiKeys[secret] = k
			message.ApiKeyIds = append(message.ApiKeyIds, k.id)
		}
	}
	return s.send(message)
}

// RevokeToken revokes the access token with this "jti" alone, one of an API key's
// (see [FromAPIKey]), and returns the revision for [tollgate.Verifier.Wait].
func (s *Server) RevokeToken(id string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[id] = true
	return s.send(&tollgatev1.WatchRevocationsResponse{TokenIds: []string{id}})
}

// KeepAlive sends a message on the feeds that changes nothing, and returns its
// revision for [tollgate.Verifier.Wait] and [tollgate.Client.WaitPolicy].
func (s *Server) KeepAlive() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(&tollgatev1.WatchRevocationsResponse{})
}

// snapshot returns everything that is revoked.
func (s *Server) snapshot() *tollgatev1.WatchRevocationsResponse {
	message := &tollgatev1.WatchRevocationsResponse{Snapshot: true, Revision: s.revision, SigningKeyIds: slices.Clone(s.removed)}
	for id, session := range s.sessions {
		if session.revoked {
			message.SessionIds = append(message.SessionIds, id)
		}
	}
	for id := range s.tokens {
		message.TokenIds = append(message.TokenIds, id)
	}
	for _, key := range s.apiKeys {
		if key.revoked {
			message.ApiKeyIds = append(message.ApiKeyIds, key.id)
		}
	}
	for _, user := range s.users {
		if user.Disabled {
			message.UserIds = append(message.UserIds, user.ID)
		}
	}
	return message
}

func (s *Server) revokeSession(id string) {
	if s.sessions[id] == nil {
		s.sessions[id] = &session{}
	}
	s.sessions[id].revoked = true
}

func (s *Server) revokeSessions(user string) (ids []string) {
	for id, session := range s.sessions {
		if session.user == user && !session.revoked {
			session.revoked = true
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Server) mustKnow(user string) User {
	u, ok := s.users[user]
	if !ok {
		panic(fmt.Sprintf("sdktest: there is no user %q; SetUser makes one", user))
	}
	return u
}

func (s *Server) userByID(id string) (User, bool) {
	for _, u := range s.users {
		if u.ID == id {
			return u, true
		}
	}
	return User{}, false
}

func (s *Server) newID(kind string) string {
	s.serial++
	return fmt.Sprintf("%s-%d", kind, s.serial)
}

// holds reports whether a user's roles grant a permission without a condition.
func (s *Server) holds(u User, permission string) bool {
	for _, role := range u.Roles {
		if anyMatch(s.policyRole(role).GetAllows(), permission) {
			return true
		}
	}
	return false
}

func anyMatch(patterns []string, permission string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, wild := strings.CutSuffix(pattern, "*")
		return pattern == permission || wild && strings.HasPrefix(permission, prefix)
	})
}
