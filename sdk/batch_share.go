package tollgate

import (
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"connectrpc.com/connect"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// maxShared is how large a call that shares a request may be. It bounds what calls
// that wait hold.
const maxShared = 16 << 10

// shareable says whether a call may share a request. One that Tollgate refuses as
// invalid would take the others with it, and one that waits for a revision would have
// them wait: these go by themselves. What it accepts is a part of what the contract
// does.
func shareable(r *tollgatev1.AuthorizeRequest, size int) bool {
	return size <= maxShared && r.GetMinRevision() == 0 && r.GetCost() >= 0 && r.GetCost() <= 1_000_000 &&
		(r.GetUserId() == "" || isUUID(r.GetUserId())) && namesOneRule(r) && isContext(r.GetContext()) &&
		isSmall(r.GetResourceAttributes()) && isSmall(r.GetActionProperties())
}

// namesOneRule checks permission, any_of, all_of, authenticated and self_only.
func namesOneRule(r *tollgatev1.AuthorizeRequest) bool {
	lists := slices.Concat(r.GetAnyOf(), r.GetAllOf())
	switch anybody := r.GetAuthenticated() || r.GetSelfOnly(); {
	case len(lists) == 0:
		return isPermission(r.GetPermission()) || anybody && r.GetPermission() == ""
	case anybody || r.GetPermission() != "" || len(r.GetAnyOf()) > 0 && len(r.GetAllOf()) > 0 || len(lists) > 16:
		return false
	}
	for i, p := range lists {
		if !isPermission(p) || slices.Contains(lists[:i], p) {
			return false
		}
	}
	return true
}

// isPermission says whether p is one permission, and none of Tollgate's own.
func isPermission(p string) bool {
	if len(p) > 128 || strings.HasPrefix(p, "tollgate:") {
		return false
	}
	segments, empty := 1, true
	for _, r := range []byte(p) {
		switch {
		case r == ':':
			if empty {
				return false
			}
			segments++
			empty = true
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			empty = false
		default:
			return false
		}
	}
	return !empty && segments <= 8
}

func isContext(context map[string]string) bool {
	for key, value := range context {
		if key == "" || len(key) > 64 || len(value) > 256 || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return false
		}
	}
	return len(context) <= 32
}

func isSmall(attributes *structpb.Struct) bool {
	return attributes == nil || proto.Size(attributes) <= 8<<10
}

// isUUID says whether id has the form of RFC 9562 §4.
func isUUID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i, r := range []byte(id) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if r != '-' {
				return false
			}
			continue
		}
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F') {
			return false
		}
	}
	return true
}

// refusedCalls are the callers and permissions of calls that were refused the last
// time. A refusal is answered when it is on record, for which the calls beside it would
// wait: the next call of the same kind goes by itself.
type refusedCalls struct {
	seed maphash.Seed

	mu    sync.Mutex
	calls generations[uint64, struct{}]
}

// maxRefusedCalls is how many are remembered.
const maxRefusedCalls = 20_000

func newRefusedCalls() refusedCalls {
	return refusedCalls{seed: maphash.MakeSeed(), calls: newGenerations[uint64, struct{}]()}
}

// kind is a hash: two kinds that share one are kept from sharing requests, no more.
func (c *refusedCalls) kind(r *tollgatev1.AuthorizeRequest) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, part := range []string{r.GetAccessToken(), r.GetApiKey(), r.GetUserId(), r.GetPermission()} {
		_, _ = h.WriteString(part)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (c *refusedCalls) has(r *tollgatev1.AuthorizeRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls.len() > 0 && c.calls.has(c.kind(r))
}

func (c *refusedCalls) learn(r *tollgatev1.AuthorizeRequest, res *tollgatev1.AuthorizeResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !res.GetAllowed():
		if len(c.calls.young) >= maxRefusedCalls/2 {
			c.calls.rotate()
		}
		c.calls.set(c.kind(r), struct{}{})
	case c.calls.len() > 0:
		c.calls.delete(c.kind(r))
	}
}

// failureError is the error of one call of a batch.
func failureError(f *tollgatev1.BatchFailure) *Error {
	e := &Error{
		Code: connect.CodeUnknown, Message: f.GetMessage(), RetryAfter: f.GetRetryAfter().AsDuration(),
		Reason: strings.TrimPrefix(f.GetReason().String(), "REASON_"),
	}
	_ = e.Code.UnmarshalText([]byte(f.GetCode())) // a code that we do not know stays Unknown
	e.cause = connect.NewError(e.Code, errors.New(f.GetMessage()))
	return e
}
