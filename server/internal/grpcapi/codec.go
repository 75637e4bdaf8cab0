package grpcapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/httpapi"
	"github.com/tollgatehq/tollgate/server/internal/inflight"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

const (
	// leastBuffer is the size in bytes of the smallest buffer of an answer. grpc-go
	// does not tell when it is done with one of 1 KiB or less.
	leastBuffer = 2 << 10
	// maxPooled is the largest buffer, in bytes, that is kept for the next answer.
	maxPooled = 64 << 10
)

var buffers = sync.Pool{New: func() any { return new(make([]byte, 0, leastBuffer)) }}

// answer is a message in the form in which it is sent. grpc-go frees its buffer when
// the last byte is written to the connection, which is when its call stops to hold it.
type answer struct {
	call *call
	data *[]byte
	size int64 // that it holds
	err  error
}

func newAnswer(c *call, message any) *answer {
	a := &answer{call: c, data: buffers.Get().(*[]byte)}
	m, ok := message.(proto.Message)
	if !ok {
		a.err = fmt.Errorf("gRPC: %T is no message", message)
		return a
	}
	options := proto.MarshalOptions{}
	size := options.Size(m)
	if size > cap(*a.data) {
		*a.data = make([]byte, 0, size)
	}
	options.UseCachedSize = true
	*a.data, a.err = options.MarshalAppend((*a.data)[:0], m)
	if len(*a.data) > inflight.SmallBody {
		a.size = int64(cap(*a.data))
	}
	return a
}

// Get is not called: an answer is the pool of its own buffer only.
func (a *answer) Get(n int) *[]byte { return new(make([]byte, n)) }

// Put is called once, when grpc-go is done with the buffer.
func (a *answer) Put(*[]byte) {
	c, size := a.call, a.size
	a.recycle()
	c.left(size)
}

func (a *answer) recycle() {
	if cap(*a.data) <= maxPooled {
		buffers.Put(a.data)
	}
	a.data = nil
}

// codec is protobuf's, for answers and for the messages of reflection.
type codec struct{}

// Name is protobuf's, the default of gRPC.
func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *answer:
		if v.err != nil {
			v.Put(v.data)
			return nil, v.err
		}
		return mem.BufferSlice{mem.NewBuffer(v.data, v)}, nil
	case proto.Message:
		data, err := proto.Marshal(v)
		return mem.BufferSlice{mem.SliceBuffer(data)}, err
	default:
		return nil, fmt.Errorf("gRPC: %T is no message", v)
	}
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("gRPC: %T is no message", v)
	}
	return decode(data, m)
}

// decode reads a message. Nothing of data is kept.
func decode(data mem.BufferSlice, m proto.Message) error {
	switch len(data) {
	case 0:
		return nil
	case 1:
		return proto.Unmarshal(data[0].ReadOnlyData(), m)
	default:
		return proto.Unmarshal(data.Materialize(), m)
	}
}

var unpackers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// unpack is the message in data, which it frees, no further than to one that is too
// large.
func unpack(c *call, data mem.BufferSlice) (mem.BufferSlice, error) {
	defer data.Free()
	if c.transport.RecvCompress() != "gzip" {
		return nil, fault.New(fault.Invalid, "BAD_REQUEST", "the message is packed, and grpc-encoding does not say how")
	}
	bad := fault.New(fault.Invalid, "BAD_REQUEST", "the message is not the gzip that grpc-encoding says")
	reader := unpackers.Get().(*gzip.Reader)
	defer unpackers.Put(reader)
	from := data.Reader()
	defer from.Close()
	if err := reader.Reset(from); err != nil {
		return nil, bad.Because(err)
	}
	var out bytes.Buffer
	for {
		// Each step asks for the memory that bytes.Buffer may grow to.
		next := int64(max(4<<10, 2*out.Cap()))
		if next > inflight.SmallBody && !c.lease.Grow(streamWindow+c.message+next) {
			return nil, errMemory
		}
		_, err := io.CopyN(&out, reader, next/2)
		switch {
		case out.Len() > httpapi.MaxBody:
			return nil, fault.New(fault.TooLarge, "TOO_LARGE", "the message is over %d bytes", httpapi.MaxBody)
		case errors.Is(err, io.EOF):
			if size := int64(out.Cap()); size > inflight.SmallBody {
				c.message += size
			}
			return mem.BufferSlice{mem.SliceBuffer(out.Bytes())}, nil
		case err != nil:
			return nil, bad.Because(err)
		}
	}
}
