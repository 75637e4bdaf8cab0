package caller

import (
	"context"
	"net/netip"
	"testing"
)

func TestWithFrom(t *testing.T) {
	t.Parallel()
	want := Caller{Principal: &Principal{UserID: "u1"}, IP: netip.MustParseAddr("192.0.2.1"), UserAgent: "curl", RequestID: "r1"}
	ctx := With(t.Context(), want)
	if got := From(ctx); got != want {
		t.Errorf("got %+v", got)
	}
	inner := With(ctx, Caller{RequestID: "r2"})
	if got := From(inner); got.Principal != nil || got.RequestID != "r2" {
		t.Errorf("the inner call inherits: %+v", got)
	}
	if got := From(ctx); got != want {
		t.Errorf("the outer call changed: %+v", got)
	}
}

type strange struct{}

func TestFromEmptyContext(t *testing.T) {
	t.Parallel()
	for name, ctx := range map[string]context.Context{
		"no caller":               t.Context(),
		"somebody else's context": context.WithValue(t.Context(), strange{}, Caller{System: true}),
	} {
		if got := From(ctx); got != (Caller{}) || got.UserID() != "" || got.IPString() != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestSystem(t *testing.T) {
	t.Parallel()
	ctx := With(t.Context(), Caller{Principal: &Principal{UserID: "u1"}, RequestID: "r1"})
	if got := From(System(ctx)); !got.System || got.Principal != nil || got.RequestID != "" {
		t.Errorf("got %+v", got)
	}
	if From(ctx).System {
		t.Error("the request has become the system")
	}
}

func TestUserIDAndIPString(t *testing.T) {
	t.Parallel()
	c := Caller{Principal: &Principal{UserID: "u1"}, IP: netip.MustParseAddr("2001:db8::1")}
	if c.UserID() != "u1" || c.IPString() != "2001:db8::1" {
		t.Errorf("got %q %q", c.UserID(), c.IPString())
	}
}
