package database

import (
	"strconv"
	"strings"
)

// Array builds an argument that holds many values, for unnest($1::text[]), which
// only PostgreSQL has: however many rows a statement writes, its text and its
// number of arguments stay the same. The zero value is an empty array.
type Array struct{ text strings.Builder }

// Text adds a text. It must not hold NUL, which no column holds.
func (a *Array) Text(s string) {
	a.next()
	a.text.WriteByte('"')
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			break
		}
		a.text.WriteString(s[:i])
		a.text.WriteByte('\\')
		a.text.WriteByte(s[i])
		s = s[i+1:]
	}
	a.text.WriteString(s)
	a.text.WriteByte('"')
}

// Number adds a number.
func (a *Array) Number(n int64) {
	a.next()
	var digits [20]byte
	a.text.Write(strconv.AppendInt(digits[:0], n, 10))
}

func (a *Array) next() {
	if a.text.Len() > 0 {
		a.text.WriteByte(',')
	}
}

// Arg is the argument.
func (a *Array) Arg() string { return "{" + a.text.String() + "}" }
