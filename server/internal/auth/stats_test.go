package auth

import (
	"testing"
	"time"
)

func TestPasswordStats(t *testing.T) {
	p := newPasswords(4, 1, 0)
	s := &Service{passwords: p}
	if got := s.PasswordStats(); got != (PasswordStats{Workers: 1}) {
		t.Errorf("idle: %+v", got)
	}
	p.compare = func(_, _ []byte) error {
		if got := s.PasswordStats(); got != (PasswordStats{Workers: 1, Running: 1}) {
			t.Errorf("at work: %+v", got)
		}
		p.wait = time.Nanosecond
		if _, err := p.matches(t.Context(), "hash", "password"); err == nil { // no worker is free
			t.Error("a second check ran beside the one worker")
		}
		return nil
	}
	if _, err := p.matches(t.Context(), "hash", "password"); err != nil {
		t.Fatal(err)
	}
	if got := s.PasswordStats(); got != (PasswordStats{Workers: 1, Refused: 1}) {
		t.Errorf("after a refusal: %+v", got)
	}
}
