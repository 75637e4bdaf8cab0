package decision

import (
	"context"
	"slices"

	"github.com/tollgatehq/tollgate/server/internal/page"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// Preview is what an update of a role would change.
type Preview struct {
	Role     roles.Role // as it would be
	Changes  []roles.Change
	Next     string // page token of Changes
	Replayed Replay
}

// Preview looks at an update of a role: a page of the users for whom it would change
// something, and which of the latest n recorded refusals and n recorded allowed calls
// would be decided otherwise.
func (s *Service) Preview(ctx context.Context, pages page.Tokens, name string, edit roles.Edit, size int32, token string, n int) (p Preview, err error) {
	if err := s.log.Ensure(ctx, 0); err != nil {
		return Preview{}, err
	}
	next, after, err := s.roles.Preview(ctx, name, edit)
	if err != nil {
		return Preview{}, err
	}
	p.Role = after
	heirs := append(next.Heirs(name), s.roles.Policy().Heirs(name)...)
	slices.Sort(heirs)
	p.Changes, p.Next, err = scan(ctx, s, pages, "preview of "+name, slices.Compact(heirs), size, token, func(m roles.Member) (roles.Change, bool, error) {
		held, err := s.roles.RolesOf(ctx, m.UserID)
		c := s.roles.ChangeOf(next, m, held)
		return c, len(c.Gains)+len(c.Losses) > 0, err
	})
	if err == nil && n > 0 {
		p.Replayed, err = s.replay(ctx, next, n)
	}
	return p, err
}
