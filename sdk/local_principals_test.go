package tollgate

import (
	"fmt"
	"testing"
	"time"
)

// TestManyChanges: what is remembered of changes is bounded, and answers that may be
// older than what was forgotten are not kept.
func TestManyChanges(t *testing.T) {
	t.Parallel()
	p := newPrincipals(100)
	p.restart(1)
	r := &AuthorizeRequest{UserID: "alice"}
	learnt := func(revision int64) bool {
		p.learn(r, &Decision{Principal: &Principal{UserID: "alice"}, Revision: revision, goodFor: time.Minute}, p.begin(time.Now()))
		return p.find(r) != nil
	}
	p.drop(revocation{ofUser, "alice"}, 5)
	for i := range 3 * maxLast {
		if i%1000 == 0 && learnt(4) {
			t.Fatalf("kept after %d other changes", i)
		}
		p.drop(revocation{ofUser, fmt.Sprint("other-", i)}, 6)
	}
	if n := p.last.len(); n > 2*maxLast {
		t.Errorf("%d changes are remembered", n)
	}
	if !learnt(6) {
		t.Error("an answer that is newer is not kept")
	}
}

// TestPrincipalsIndex: nothing is left of principals that are not kept.
func TestPrincipalsIndex(t *testing.T) {
	t.Parallel()
	p := newPrincipals(100)
	p.restart(1)
	for i := range 1000 {
		who := &Principal{UserID: fmt.Sprint("u", i%300), SessionID: fmt.Sprint("s", i)}
		p.learn(&AuthorizeRequest{Credential: fmt.Sprint("c", i%500)}, &Decision{Principal: who, Revision: 1, goodFor: time.Minute}, p.begin(time.Now()))
		kept := 0
		for j := range p.shards {
			kept += p.shards[j].known.len()
		}
		linked := map[*known]struct{}{}
		for _, list := range p.about {
			for k := range list {
				linked[k] = struct{}{}
			}
		}
		if kept > 100 || len(linked) != kept {
			t.Fatalf("%d are kept, %d linked", kept, len(linked))
		}
	}
	for i := range 300 {
		p.drop(revocation{ofUser, fmt.Sprint("u", i)}, 2)
	}
	if len(p.about) > 0 {
		t.Errorf("left: %v", p.about)
	}
}
