// Package terminal asks people at a terminal, or reads their answers from a pipe, and
// shows text that came from elsewhere without letting it drive the terminal.
package terminal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// ErrInterrupted is the error of a prompt that Ctrl-C or SIGTERM ended.
var ErrInterrupted = errors.New("interrupted; nothing was changed")

// maxAnswer bounds an answer from a pipe, in bytes.
const maxAnswer = 1024

// Prompt asks for answers. What comes from a pipe is one answer a line, in the order
// of the questions.
type Prompt struct {
	in  *os.File
	out io.Writer

	lines *bufio.Reader // of a pipe
}

// NewPrompt reads answers from in and writes questions to out.
func NewPrompt(in *os.File, out io.Writer) *Prompt {
	return &Prompt{in: in, out: out, lines: bufio.NewReaderSize(in, maxAnswer)}
}

// Interactive says whether somebody sits at a terminal.
func (p *Prompt) Interactive() bool { return term.IsTerminal(int(p.in.Fd())) }

// Secret reads an answer without showing it. When ctx ends it restores the terminal and
// returns ErrInterrupted.
func (p *Prompt) Secret(ctx context.Context, question string) (string, error) {
	if !p.Interactive() {
		return p.wait(ctx, p.line)
	}
	fd := int(p.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	fmt.Fprint(p.out, question)
	defer fmt.Fprintln(p.out)
	defer func() {
		if ctx.Err() != nil {
			term.Restore(fd, before) //nolint:errcheck // the program is about to end
		}
	}()
	return p.wait(ctx, func() (string, error) {
		text, err := term.ReadPassword(fd)
		return string(text), err
	})
}

// Line reads an answer that may be seen.
func (p *Prompt) Line(ctx context.Context, question string) (string, error) {
	if p.Interactive() {
		fmt.Fprint(p.out, question)
	}
	return p.wait(ctx, p.line)
}

// line reads a line of the pipe; after its end, it is empty.
func (p *Prompt) line() (string, error) {
	text, err := p.lines.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("the line has more than %d bytes", maxAnswer)
	case err != nil && !errors.Is(err, io.EOF):
		return "", err
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// wait is the answer of read, which cannot be canceled: when interrupted, it goes on
// until the program exits.
func (p *Prompt) wait(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := read()
		got <- answer{text, err}
	}()
	select {
	case a := <-got:
		return a.text, a.err
	case <-ctx.Done():
		return "", ErrInterrupted
	}
}
