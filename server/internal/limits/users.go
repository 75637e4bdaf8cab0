package limits

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tollgatehq/tollgate/internal/perm"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/database"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// SecondFactor is the permission that codes of second factors are counted under.
const SecondFactor = "tollgate:second-factor"

// readUsers is what looking users up takes.
const readUsers = "tollgate:users:read"

// FindUser finds a user by id or name, in whatever form the name is written;
// found is false when there is none.
type FindUser func(ctx context.Context, q database.Queries, idOrName string) (id, name string, found bool, err error)

// ResolveUsers makes the keys of limits that count users resolve to what is
// counted: callers write a user's id or name. Without it keys are taken as they
// are. Call it before the first request.
func (s *Service) ResolveUsers(find FindUser) { s.findUser = find }

// resolves says whether this caller's keys of the limit are users to look up.
// Who may not read users learns nothing of them: such keys are taken as they are.
func (s *Service) resolves(ctx context.Context, l Limit) bool {
	c := caller.From(ctx)
	return s.findUser != nil && l.countsUsers() && (c.System || s.roles.Check(c.Principal, readUsers) == caller.ReasonOK)
}

// countsUsers says whether the limit's keys name users.
func (l Limit) countsUsers() bool { return l.Subject == SubjectUser || l.Subject == SubjectUserIP }

// counted are the keys that the limit counts a user under. Attempts to sign in
// are counted by name, which is all that is known then; every other call by id.
func (l Limit) counted(id, name string) []string {
	switch attempts := perm.Covers(l.Permission, login) || perm.Covers(l.Permission, SecondFactor); {
	case !attempts:
		return []string{id}
	case l.Permission == login || l.Permission == SecondFactor:
		return []string{name}
	default:
		return []string{id, name}
	}
}

// resolve returns the keys that the limit counts the user of a key under, and
// whether there is such a user. The key is canonical.
func (s *Service) resolve(ctx context.Context, q database.Queries, l Limit, key string) (keys []string, found bool, err error) {
	user, address := key, ""
	if at := strings.LastIndexByte(key, '@'); l.Subject == SubjectUserIP && at > 0 {
		user, address = key[:at], key[at:]
	}
	id, name, found, err := s.findUser(ctx, q, user)
	if err != nil || !found {
		return nil, false, err
	}
	keys = l.counted(id, name)
	for i := range keys {
		keys[i] += address
	}
	return keys, true, nil
}

// resolveOverrides brings the overrides of a limit that counts users to the keys
// that it counts. A user who does not exist is refused, but for keys that had an
// override before.
func (s *Service) resolveOverrides(ctx context.Context, q database.Queries, l Limit, had []Override) ([]Override, error) {
	if !s.resolves(ctx, l) {
		return l.Overrides, nil
	}
	resolved := slices.Clone(l.Overrides)
	for i, o := range resolved {
		field := fmt.Sprintf("overrides[%d].key", i)
		keys, found, err := s.resolve(ctx, q, l, o.Key)
		switch {
		case err != nil:
			return nil, fmt.Errorf("find the user of %s: %w", field, err)
		case found && !slices.Contains(keys, o.Key):
			resolved[i].Key = keys[len(keys)-1] // not the id, which needs no resolving
		case !found && !slices.ContainsFunc(had, func(h Override) bool { return h.Key == o.Key }):
			return nil, fault.Field(field, "%q is no user; give the id or the name of one, or count keys of your own with SUBJECT_CUSTOM", o.Key)
		}
		if slices.ContainsFunc(resolved[:i], func(other Override) bool { return other.Key == resolved[i].Key }) {
			return nil, fault.Field(field, "is the same user as one before: one override a user")
		}
	}
	return resolved, nil
}

// keysToForget are the matches whose counts a reset of a key forgets.
func (s *Service) keysToForget(ctx context.Context, r *rule, key string) ([]match, error) {
	as := r.named(key, 1)
	if !s.resolves(ctx, r.Limit) {
		return []match{as}, nil
	}
	keys, found, err := s.resolve(ctx, s.db, r.Limit, as.Key)
	if err != nil {
		return nil, fmt.Errorf("find the user to reset: %w", err)
	}
	if found {
		list := make([]match, len(keys))
		for i, k := range keys {
			list[i] = r.match(k, 1)
		}
		return list, nil
	}
	// A name that an attacker guessed, or a key of CheckLimit's.
	now, err := s.take(ctx, []match{as}, true)
	if err != nil {
		return nil, err
	}
	if now.Limits[0].Reset == 0 && !now.Outage {
		return nil, fault.New(fault.NotFound, "USER_NOT_FOUND",
			"the limit %q counts users, and %q is neither the id nor the name of one, nor has it counted anything under it", r.Name, key)
	}
	return []match{as}, nil
}
