package guard

import (
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"
)

// hot are the messages that surelyValid knows, with the number of their fields.
var hot = map[proto.Message]int{
	&tollgatev1.AuthorizeRequest{}: 18, &tollgatev1.BatchAuthorizeRequest{}: 2, &tollgatev1.VerifyRequest{}: 3,
	&tollgatev1.CheckLimitRequest{}: 5, &tollgatev1.Client{}: 3,
}

var texts = rapid.OneOf(
	rapid.SampledFrom([]string{
		"", "a", "orders:read", "a:b:c:d:e:f:g:h", "a:b:c:d:e:f:g:h:i", ":", "a:", ":a", "a::b", "A", "a b", "ä", "orders:*", "tollgate", "tollgate:x",
		"tollgate-x:y", "192.0.2.1", "192.0.2.01", "192.0.2.256", "::1", "::ffff:192.0.2.1", "fe80::1%eth0", "::%", "1.2.3", "01a20eb5-0000-7000-8000-000000000000",
		"a\n", "a\x00", "orders:read\n",
	}),
	rapid.Custom(func(t *rapid.T) string {
		n := rapid.SampledFrom([]int{1, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 8191, 8192, 8193}).Draw(t, "length")
		return strings.Repeat(rapid.SampledFrom([]string{"a", "é", "a:"}).Draw(t, "of"), n)
	}),
	rapid.StringMatching(`[a-c:.]{0,20}`),
)

var numbers = rapid.OneOf(rapid.SampledFrom([]int64{0, 1, -1, 1_000_000, 1_000_001, 1 << 62, -1 << 63}), rapid.Int64())

// fill sets fields at random, to values that are often at a bound.
func fill(t *rapid.T, m protoreflect.Message, rarely int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if rapid.IntRange(0, rarely).Draw(t, "set") > 0 {
			continue
		}
		single := func(kind protoreflect.FieldDescriptor) protoreflect.Value {
			switch kind.Kind() {
			case protoreflect.StringKind:
				return protoreflect.ValueOfString(texts.Draw(t, string(kind.Name())))
			case protoreflect.BoolKind:
				return protoreflect.ValueOfBool(rapid.Bool().Draw(t, string(kind.Name())))
			default:
				return protoreflect.ValueOfInt64(numbers.Draw(t, string(kind.Name())))
			}
		}
		switch {
		case f.IsMap():
			for range rapid.SampledFrom([]int{1, 2, 31, 32, 33, 40}).Draw(t, "pairs") {
				m.Mutable(f).Map().Set(single(f.MapKey()).MapKey(), single(f.MapValue()))
			}
		case f.IsList():
			for range rapid.SampledFrom([]int{1, 1, 2, 16, 17, 100, 101}).Draw(t, "items") {
				if f.Message() != nil {
					fill(t, m.Mutable(f).List().AppendMutable().Message(), rarely)
				} else {
					m.Mutable(f).List().Append(single(f))
				}
			}
		case f.Message() != nil:
			if one := m.Mutable(f).Message(); strings.HasPrefix(string(f.Message().FullName()), "tollgate.") {
				fill(t, one, rarely)
			}
		default:
			m.Set(f, single(f))
		}
	}
}

// What is surely valid is valid: protovalidate has nothing to say about it.
func TestSurelyValid(t *testing.T) {
	t.Parallel()
	validator, err := protovalidate.New()
	backendtest.Must(t, err)
	for kind, count := range hot {
		name := string(kind.ProtoReflect().Descriptor().Name())
		if n := kind.ProtoReflect().Descriptor().Fields().Len(); n != count {
			t.Errorf("%s has %d fields, and surelyValid knows %d: look at the new ones there", name, n, count)
		}
		sure := 0
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			m := kind.ProtoReflect().New()
			if rapid.Bool().Draw(t, "usual") { // but for one field
				proto.Merge(m.Interface(), usual(kind))
				f := m.Descriptor().Fields().Get(rapid.IntRange(0, count-1).Draw(t, "field"))
				fresh := m.New()
				fill(t, fresh, 0)
				if fresh.Has(f) {
					m.Set(f, fresh.Get(f))
				}
			} else {
				fill(t, m, rapid.SampledFrom([]int{0, 2, 8}).Draw(t, "rarely"))
			}
			if !surelyValid(m.Interface()) {
				return
			}
			sure++
			if err := validator.Validate(m.Interface()); err != nil {
				t.Fatalf("surely valid, but: %v: %v", err, m.Interface())
			}
		}))
		if _, client := kind.(*tollgatev1.Client); !client && sure == 0 {
			t.Errorf("no %s was surely valid", name)
		}
	}
}

// usual is a message of a kind as services send it all the time.
func usual(kind proto.Message) proto.Message {
	authorize := &tollgatev1.AuthorizeRequest{
		Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: strings.Repeat("x", 600)}, Permission: "orders:read", Resource: "order/1",
		Context: map[string]string{"tenant": "acme"}, Client: &tollgatev1.Client{Ip: "2001:db8::1", UserAgent: "curl", RequestId: "r"}, Cost: 1, MinRevision: 7,
	}
	switch kind.(type) {
	case *tollgatev1.AuthorizeRequest:
		return authorize
	case *tollgatev1.BatchAuthorizeRequest:
		return &tollgatev1.BatchAuthorizeRequest{Requests: []*tollgatev1.AuthorizeRequest{authorize, authorize}}
	case *tollgatev1.VerifyRequest:
		return &tollgatev1.VerifyRequest{Credential: &tollgatev1.VerifyRequest_ApiKey{ApiKey: "tg_x"}}
	case *tollgatev1.CheckLimitRequest:
		return &tollgatev1.CheckLimitRequest{Limit: "orders", Key: "k", Cost: 2}
	default:
		return authorize.GetClient()
	}
}

// It needs nothing else.
func TestSurelyValidWhatIsUsual(t *testing.T) {
	t.Parallel()
	for kind := range hot {
		if _, client := kind.(*tollgatev1.Client); !client && !surelyValid(usual(kind)) {
			t.Errorf("%v", usual(kind))
		}
	}
}

// At every bound, of which each side is tried, the two agree.
func TestSurelyValidAtTheBounds(t *testing.T) {
	t.Parallel()
	validator, err := protovalidate.New()
	backendtest.Must(t, err)
	x := func(n int) string { return strings.Repeat("x", n) }
	authorize := func(change func(a *tollgatev1.AuthorizeRequest, n int)) func(int) proto.Message {
		return func(n int) proto.Message {
			a := usual(&tollgatev1.AuthorizeRequest{}).(*tollgatev1.AuthorizeRequest)
			change(a, n)
			return a
		}
	}
	for name, c := range map[string]struct {
		bounds []int
		make   func(int) proto.Message
	}{
		"segments": {[]int{0, 1, 8}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) {
			a.Permission = strings.TrimSuffix(strings.Repeat("a:", max(n, 0)), ":")
		})},
		"permission": {[]int{128}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.Permission = x(n) })},
		"token": {[]int{0, 8192}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) {
			a.Credential = &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: x(n)}
		})},
		"key": {[]int{0, 256}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) {
			a.Credential = &tollgatev1.AuthorizeRequest_ApiKey{ApiKey: x(n)}
		})},
		"resource":      {[]int{0, 256}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.Resource = x(n) })},
		"context key":   {[]int{0, 64}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.Context = map[string]string{x(n): ""} })},
		"context value": {[]int{0, 256}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.Context = map[string]string{"k": x(n)} })},
		"context": {[]int{0, 32}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) {
			a.Context = map[string]string{}
			for i := range n {
				a.Context[x(i+1)] = ""
			}
		})},
		"user agent":  {[]int{0, 512}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.Client.UserAgent = x(n) })},
		"request id":  {[]int{0, 128}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.Client.RequestId = x(n) })},
		"cost":        {[]int{0, 1_000_000}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.Cost = int64(n) })},
		"revision":    {[]int{0}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.MinRevision = int64(n) })},
		"self":        {[]int{0, 64}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.Self = x(n) })},
		"idempotency": {[]int{0, 64}, authorize(func(a *tollgatev1.AuthorizeRequest, n int) { a.IdempotencyKey = x(n) })},
		"batch": {[]int{0, 100}, func(n int) proto.Message {
			b := &tollgatev1.BatchAuthorizeRequest{}
			for range n {
				b.Requests = append(b.Requests, &tollgatev1.AuthorizeRequest{Permission: "a"})
			}
			return b
		}},
		"verify": {[]int{0, 8192}, func(n int) proto.Message {
			return &tollgatev1.VerifyRequest{Credential: &tollgatev1.VerifyRequest_AccessToken{AccessToken: x(n)}}
		}},
		"verify a key": {[]int{0, 256}, func(n int) proto.Message {
			return &tollgatev1.VerifyRequest{Credential: &tollgatev1.VerifyRequest_ApiKey{ApiKey: x(n)}}
		}},
		"verify at": {[]int{0}, func(n int) proto.Message {
			return &tollgatev1.VerifyRequest{MinRevision: int64(n), Credential: &tollgatev1.VerifyRequest_ApiKey{ApiKey: "k"}}
		}},
		"limit":      {[]int{0, 64}, func(n int) proto.Message { return &tollgatev1.CheckLimitRequest{Limit: x(n)} }},
		"limit key":  {[]int{0, 256}, func(n int) proto.Message { return &tollgatev1.CheckLimitRequest{Limit: "l", Key: x(n)} }},
		"limit cost": {[]int{0, 1_000_000}, func(n int) proto.Message { return &tollgatev1.CheckLimitRequest{Limit: "l", Cost: int64(n)} }},
		"limit once": {[]int{0, 64}, func(n int) proto.Message { return &tollgatev1.CheckLimitRequest{Limit: "l", IdempotencyKey: x(n)} }},
	} {
		for _, bound := range c.bounds {
			for n := bound - 1; n <= bound+1; n++ {
				if n < 0 && !slices.Contains([]string{"cost", "revision", "verify at", "limit cost"}, name) {
					continue
				}
				m := c.make(n)
				if sure, valid := surelyValid(m), validator.Validate(m) == nil; sure != valid {
					t.Errorf("%s, %d: surely valid %t, valid %t", name, n, sure, valid)
				}
			}
		}
	}
	for _, p := range []string{"tollgate:x", "tollgate", "a:", ":a", "a::b", "A", "a b", "ä", "a\n", "*"} {
		m := &tollgatev1.AuthorizeRequest{Permission: p}
		if sure, valid := surelyValid(m), validator.Validate(m) == nil; sure != valid {
			t.Errorf("%q: surely valid %t, valid %t", p, sure, valid)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	validator, err := protovalidate.New()
	backendtest.Must(b, err)
	m := &tollgatev1.AuthorizeRequest{
		Credential: &tollgatev1.AuthorizeRequest_AccessToken{AccessToken: strings.Repeat("x", 600)}, Permission: "orders:read", Resource: "order/1",
	}
	b.Run("protovalidate", func(b *testing.B) {
		for b.Loop() {
			backendtest.Must(b, validator.Validate(m))
		}
	})
	b.Run("surely", func(b *testing.B) {
		for b.Loop() {
			if !surelyValid(m) {
				b.Fatal("no")
			}
		}
	})
}
