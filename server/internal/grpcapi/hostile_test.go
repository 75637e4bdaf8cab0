package grpcapi

import (
	"bytes"
	"compress/gzip"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"github.com/tollgatehq/tollgate/server/internal/metrics"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var insecurely = grpc.WithTransportCredentials(insecure.NewCredentials())

// short are waits that a test can wait for.
func short(change func(*waits)) waits {
	w := waits{body: time.Hour, answer: time.Hour, message: time.Hour, write: time.Hour, reflection: time.Hour}
	change(&w)
	return w
}

// A client that sends many messages and none of them to its end gets its share of the
// memory and no more, others are served meanwhile, and it is all given back in time.
func TestMessagesThatNeverArrive(t *testing.T) {
	t.Parallel()
	const size = 200 << 10
	part := make([]byte, frameHeader+12<<10)
	copy(part, framed(0, make([]byte, size))[:frameHeader])
	for name, c := range map[string]struct {
		conns int
		sent  []byte
	}{"half": {3, part}, "nothing of": {8, nil}} {
		t.Run(name+" a message", func(t *testing.T) {
			t.Parallel()
			s := serve(t, short(func(w *waits) { w.body = 3 * time.Second }), nil)
			memory := s.options.Shares.Memory
			for range c.conns {
				r := s.dial(t, "127.0.0.2", 1<<20)
				for range 90 {
					if id := r.open("/test.Echo/Say"); c.sent != nil {
						backendtest.Must(t, r.framer.WriteData(id, false, c.sent))
					}
				}
			}
			eventually(t, "its share is used up", func() bool { return s.refusals(metrics.RefusedMemory) > 0 })
			// The last one may go over it.
			if used, most := memory.Used(), memory.Capacity()/2+streamWindow+size; used > most {
				t.Errorf("one client holds %d bytes, more than its share of %d", used, memory.Capacity())
			}
			other := s.client(t, "127.0.0.3")
			if got, err := say(t, other, "hello"); err != nil || got != "hello" {
				t.Errorf("another client: %q, %v", got, err)
			}
			s.allFree(t)
		})
	}
}

// An answer that is not read is held against its client's share for so long, and then
// its connection is cut.
func TestAnswersThatNobodyReads(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]string{"small": "1", "large": "200000"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, short(func(w *waits) { w.message = 2 * time.Second }), func(o *Options) { o.Shares = inflight.NewShares(1024) })
			var conns []*raw
			for range 12 {
				r := s.dial(t, "127.0.0.2", 0)
				conns = append(conns, r)
				for range 95 {
					backendtest.Must(t, r.framer.WriteData(r.open("/test.Echo/Say"), true, framed(0, text(t, "much "+size))))
				}
			}
			eventually(t, "its share is used up", func() bool { return s.refusals(metrics.RefusedMemory) > 0 })
			if used, half := s.options.Shares.Memory.Used(), s.options.Shares.Memory.Capacity()/2; used > half+256<<10 {
				t.Errorf("one client holds %d bytes, more than %d", used, half)
			}
			if got, err := say(t, s.client(t, "127.0.0.3"), "hello"); err != nil || got != "hello" {
				t.Errorf("another client: %q, %v", got, err)
			}
			s.allFree(t)
			if code, _ := conns[0].status(); code != "" {
				t.Errorf("the first call's answer was not read, and it ended with %s", code)
			}
		})
	}
}

// A stream ends whose client does not read what it is sent.
func TestStreamThatNobodyReads(t *testing.T) {
	t.Parallel()
	s := serve(t, short(func(w *waits) { w.message = time.Second }), nil)
	r := s.dial(t, "127.0.0.2", 0)
	backendtest.Must(t, r.framer.WriteData(r.open("/test.Echo/Count"), true, framed(0, text(t, strings.Repeat("x", 1000)))))
	if code, _ := r.status(); code != "" {
		t.Errorf("the stream ended with %s before what it sent was read", code)
	}
	s.allFree(t)
}

// A connection ends whose client reads nothing at all.
func TestConnectionThatNobodyReads(t *testing.T) {
	t.Parallel()
	s := serve(t, short(func(w *waits) { w.write = time.Second }), func(o *Options) { o.Shares = inflight.NewShares(1024) })
	r := s.connect(t, "127.0.0.2", 1<<30)
	for range 90 {
		if err := r.framer.WriteData(r.open("/test.Echo/Say"), true, framed(0, text(t, "much 200000"))); err != nil {
			break // cut already
		}
	}
	eventually(t, "the connection is cut", func() bool { return r.framer.WriteWindowUpdate(0, 1) != nil })
}

// A message that does not come ends its own call, and no other of its connection.
func TestMessageTooLate(t *testing.T) {
	t.Parallel()
	s := serve(t, short(func(w *waits) { w.body = time.Second }), nil)
	r := s.dial(t, "127.0.0.2", 1<<20)
	for _, sent := range [][]byte{nil, {0, 0}, framed(0, make([]byte, 100))[:50], framed(0, text(t, "whole"))} {
		id := r.open("/test.Echo/Say")
		if sent != nil {
			backendtest.Must(t, r.framer.WriteData(id, false, sent)) // which is not its end
		}
		if code, message := r.status(); code != "4" || !strings.HasPrefix(message, "the body did not arrive") {
			t.Errorf("after %d bytes: %s %s", len(sent), code, message)
		}
	}
	backendtest.Must(t, r.framer.WriteData(r.open("/test.Echo/Say"), true, framed(0, text(t, "hello"))))
	if code, message := r.status(); code != "0" {
		t.Errorf("the next call: %s %s", code, message)
	}
	s.allFree(t)
}

// Messages of the wrong form are their callers' mistakes.
func TestMessagesOfTheWrongForm(t *testing.T) {
	t.Parallel()
	s := serve(t, defaultWaits, nil)
	r := s.dial(t, "127.0.0.2", 1<<20)
	packed := func(data []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := w.Write(data)
		backendtest.Must(t, err)
		backendtest.Must(t, w.Close())
		return out.Bytes()
	}
	bomb := packed(make([]byte, 64<<20))
	hello := text(t, "hello")
	large := framed(0, text(t, strings.Repeat("x", httpapi.MaxBody-8)))
	gzipped := []string{"grpc-encoding", "gzip"}
	for name, c := range map[string]struct {
		header []string
		body   []byte
		code   codes.Code
	}{
		"good":                    {nil, framed(0, hello), codes.OK},
		"packed":                  {gzipped, framed(1, packed(hello)), codes.OK},
		"could be packed":         {gzipped, framed(0, hello), codes.OK},
		"the largest":             {nil, large, codes.OK},
		"the largest, packed":     {gzipped, framed(1, packed(large[frameHeader:])), codes.OK},
		"empty":                   {nil, framed(0, nil), codes.OK},
		"none":                    {nil, nil, codes.Unimplemented},
		"two":                     {nil, append(framed(0, hello), framed(0, hello)...), codes.Unimplemented},
		"one and a byte":          {nil, append(framed(0, hello), 0), codes.Unimplemented},
		"cut":                     {nil, framed(0, hello)[:7], codes.InvalidArgument},
		"a cut head":              {nil, []byte{0, 0}, codes.InvalidArgument},
		"too large":               {nil, framed(0, make([]byte, httpapi.MaxBody+1))[:100], codes.ResourceExhausted},
		"4 GiB":                   {nil, []byte{0, 255, 255, 255, 255}, codes.ResourceExhausted},
		"no protobuf":             {nil, framed(0, []byte{0xff}), codes.InvalidArgument},
		"no UTF-8":                {nil, framed(0, []byte{10, 1, 0xff}), codes.InvalidArgument},
		"a strange flag":          {nil, framed(2, hello), codes.InvalidArgument},
		"packed, not said how":    {nil, framed(1, packed(hello)), codes.InvalidArgument},
		"not the gzip it says":    {gzipped, framed(1, hello), codes.InvalidArgument},
		"half of a gzip":          {gzipped, framed(1, packed(hello)[:20]), codes.InvalidArgument},
		"a bomb":                  {gzipped, framed(1, bomb), codes.ResourceExhausted},
		"an encoding of its own":  {[]string{"grpc-encoding", "zstd"}, framed(1, hello), codes.Unimplemented},
		"an unpacked empty bomb":  {gzipped, framed(1, nil), codes.InvalidArgument},
		"a gzip of nothing":       {gzipped, framed(1, packed(nil)), codes.OK},
		"a gzip with more behind": {gzipped, framed(1, append(packed(hello), 1, 2, 3)), codes.InvalidArgument},
	} {
		id := r.open("/test.Echo/Say", c.header...)
		r.send(id, c.body)
		if code, message := r.status(); code != number(c.code) {
			t.Errorf("%s: %s %s, want %s", name, code, message, number(c.code))
		}
	}
	id := r.open("/test.Echo/Say", "content-type", "application/grpc+json")
	backendtest.Must(t, r.framer.WriteData(id, true, framed(0, []byte("{}"))))
	if code, _ := r.status(); code != number(codes.Unimplemented) {
		t.Errorf("JSON: %s", code)
	}
	s.allFree(t)
}

func number(c codes.Code) string { return strconv.Itoa(int(c)) }

// Whatever becomes of a call, what it held is given back, and the server goes on.
func TestNothingStaysHeld(t *testing.T) {
	t.Parallel()
	s := serve(t, defaultWaits, nil)
	conn := s.client(t, "127.0.0.2")
	if _, err := say(t, conn, "panic"); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "a bug") {
		t.Errorf("a panic: %v", err)
	}
	if err := conn.Invoke(t.Context(), "/test.Echo/Nothing", wrapperspb.String("x"), &wrapperspb.StringValue{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown RPC: %v", err)
	}
	if err := conn.Invoke(t.Context(), "/test.Nobody/Say", wrapperspb.String("x"), &wrapperspb.StringValue{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown service: %v", err)
	}
	r := s.dial(t, "127.0.0.2", 1<<20)
	for range 20 {
		backendtest.Must(t, r.framer.WriteData(r.open("/test.Echo/Say"), true, framed(0, text(t, "much 100000"))))
		backendtest.Must(t, r.framer.WriteRSTStream(r.stream, 8))
		r.open("/test.Echo/Count")
	}
	r.conn.Close()
	if got, err := say(t, conn, "hello"); err != nil || got != "hello" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	s.allFree(t)
}

// A client's calls share its places, whatever addresses it claims to have; a trusted
// proxy's are its clients'.
func TestPlacesAreTheClients(t *testing.T) {
	t.Parallel()
	s := serve(t, defaultWaits, func(o *Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
	})
	if !s.options.Shares.Calls.Acquire(netip.MustParseAddr("127.0.0.2"), 4) { // half of 8
		t.Fatal("the places are not free")
	}
	if _, err := say(t, s.client(t, "127.0.0.2"), "x", "x-forwarded-for", "198.51.100.7"); status.Code(err) != codes.Unavailable {
		t.Errorf("a stranger that claims to be another: %v", err)
	}
	proxy := s.client(t, "127.0.0.9")
	if _, err := say(t, proxy, "x", "x-forwarded-for", "198.51.100.7"); err != nil {
		t.Errorf("a proxy's client: %v", err)
	}
	if _, err := say(t, proxy, "x", "x-forwarded-for", "198.51.100.7, 127.0.0.2"); status.Code(err) != codes.Unavailable {
		t.Errorf("a proxy's client that has no place left: %v", err)
	}
	if s.refusals(metrics.RefusedOverloaded) != 2 {
		t.Errorf("counted: %v", s.refused)
	}
}
