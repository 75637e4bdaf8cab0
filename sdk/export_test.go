package tollgate

import "runtime"

// WaitLeases returns when no lease is asked for.
func WaitLeases(c *Client) {
	l := c.local.leases
	for {
		l.mu.RLock()
		asking := l.asking
		l.mu.RUnlock()
		if asking == 0 {
			return
		}
		runtime.Gosched()
	}
}

// Leased is how many calls are held of a limit, for how many keys.
func Leased(c *Client, limit string) (calls int64, keys int) {
	l := c.local.leases
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, half := range [...]map[stockKey]*stock{l.stocks.young, l.stocks.old} {
		for key, s := range half {
			if key.limit.GetName() != limit {
				continue
			}
			keys++
			for _, g := range s.held {
				if g.valid(l.now()) {
					calls += g.left
				}
			}
		}
	}
	return calls, keys
}
