package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// errInterrupted is the error of a prompt that Ctrl-C or SIGTERM ended.
var errInterrupted = errors.New("interrupted; nothing was changed")

// readSecret reads a line from a terminal without showing it, or from a pipe.
// When ctx ends it restores the terminal and returns errInterrupted.
func readSecret(ctx context.Context, prompt string) (string, error) {
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		go func() {
			all, err := io.ReadAll(io.LimitReader(os.Stdin, 1024))
			read <- line{strings.TrimRight(string(all), "\r\n"), err}
		}()
	} else {
		before, err := term.GetState(in)
		if err != nil {
			return "", err
		}
		fmt.Fprint(os.Stderr, prompt)
		defer fmt.Fprintln(os.Stderr)
		// A read from a terminal cannot be canceled: when interrupted, the
		// goroutine stays until the program exits.
		go func() {
			text, err := term.ReadPassword(in)
			read <- line{string(text), err}
		}()
		defer func() {
			if ctx.Err() != nil {
				term.Restore(in, before) //nolint:errcheck // the program is about to end
			}
		}()
	}
	select {
	case got := <-read:
		return got.text, got.err
	case <-ctx.Done():
		return "", errInterrupted
	}
}
