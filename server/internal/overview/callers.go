package overview

import (
	"cmp"
	"slices"
	"time"
)

// callers are the users and the addresses refused most. A user whom several services
// asked about is one.
func (s *Service) callers(now time.Time) []RefusedCaller {
	var list []RefusedCaller
	users, _ := s.users.most(topSlots*topSize, now)
	at := map[userKey]int{}
	for _, u := range users {
		key := userKey{id: u.key.id, apiKeyID: u.key.apiKeyID}
		i, known := at[key]
		if !known {
			i = len(list)
			at[key] = i
			list = append(list, RefusedCaller{UserID: u.key.id, Username: u.key.name, APIKeyID: u.key.apiKeyID})
		}
		list[i].Count += u.Count
		list[i].MaybeMore += u.MaybeMore
	}
	strangers, _ := s.strangers.most(listed, now)
	for _, a := range strangers {
		list = append(list, RefusedCaller{IP: a.key.ip, Refusals: a.Refusals})
	}
	slices.SortStableFunc(list, func(a, b RefusedCaller) int { return cmp.Compare(b.Count, a.Count) })
	return list[:min(listed, len(list))]
}
