package auth

// PasswordStats is how busy the workers are that hash passwords.
type PasswordStats struct {
	Workers int    // how many may run at once
	Running int    // run now
	Waiting int    // wait for a worker now
	Refused uint64 // were told to try again since the start: too many waited, or for too long
}

// PasswordStats counts.
func (s *Service) PasswordStats() PasswordStats {
	p := s.passwords
	running := len(p.running)
	return PasswordStats{
		Workers: cap(p.running), Running: running,
		Waiting: max(0, int(p.waiting.Used())-running), Refused: p.refused.Load(),
	}
}
