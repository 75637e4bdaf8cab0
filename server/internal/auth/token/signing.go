package token

import "time"

// Signing says which key signs now and when it was made; empty when none does.
func (k *Keys) Signing() (id string, created time.Time) {
	key := k.set.Load().signer(k.Clock.Now())
	if key == nil {
		return "", time.Time{}
	}
	return key.id, key.created
}
