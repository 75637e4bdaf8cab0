package protoconv

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/fault"
)

func TestTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 1000, time.UTC)
	if got, err := Time("at", Timestamp(at)); err != nil || !got.Equal(at) {
		t.Errorf("got %v, %v", got, err)
	}
	if Timestamp(time.Time{}) != nil {
		t.Error("the zero Time is set")
	}
	if got, err := Time("at", nil); err != nil || !got.IsZero() {
		t.Errorf("unset: %v, %v", got, err)
	}
	// The first moment of all is a time, and no expiry at it means that there is none.
	if got, err := Time("at", timestamppb.New(time.Time{})); err != nil || got.IsZero() || got.Year() != 1 {
		t.Errorf("the year 1: %v, %v", got, err)
	}
	_, err := Time("at", &timestamppb.Timestamp{Nanos: -1})
	if f := fault.From(err); f.Kind != fault.Invalid || len(f.Violations) != 1 || f.Violations[0].Field != "at" {
		t.Errorf("an impossible time: %v", err)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	if Duration(0) != nil || Duration(time.Second).AsDuration() != time.Second {
		t.Errorf("got %v and %v", Duration(0), Duration(time.Second))
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	if got := List([]int{1, 2}, strconv.Itoa); !slices.Equal(got, []string{"1", "2"}) || List(nil, strconv.Itoa) != nil {
		t.Errorf("got %q", got)
	}
}

func TestEnum(t *testing.T) {
	t.Parallel()
	subjects := NewEnum[string, tollgatev1.Subject](tollgatev1.Subject_name)
	for text, proto := range map[string]tollgatev1.Subject{
		"user": tollgatev1.Subject_SUBJECT_USER, "user_ip": tollgatev1.Subject_SUBJECT_USER_IP,
		"": tollgatev1.Subject_SUBJECT_UNSPECIFIED,
	} {
		if subjects.Text(proto) != text || subjects.Proto(text) != proto {
			t.Errorf("%q is %v, %v is %q", text, subjects.Proto(text), proto, subjects.Text(proto))
		}
	}
	if subjects.Text(99) != "" || subjects.Proto("unspecified") != 0 || subjects.Proto("USER") != 0 {
		t.Error("a value that is not in the contract has a counterpart")
	}
}
