package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// maxSecret bounds what is read of a secret's file, in bytes.
const maxSecret = 64 << 10

// secretFile is a kong.ResolverFunc: it reads a flag that holds a secret from
// the file that the flag's variable with _FILE at its end names. Newlines at
// the file's end are not part of the value. No error holds any of the content.
func secretFile(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !flag.Tag.Has("secret") {
		return nil, nil
	}
	name := flag.Envs[0]
	path := os.Getenv(name + "_FILE")
	if path == "" {
		return nil, nil
	}
	if os.Getenv(name) != "" {
		return nil, fmt.Errorf("%s and %s_FILE are both set; unset one", name, name)
	}
	value, err := readSecretFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s_FILE: %w", name, err)
	}
	return value, nil
}

func readSecretFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", err
	}
	value := strings.TrimRight(string(content), "\r\n")
	switch {
	case len(content) > maxSecret:
		return "", fmt.Errorf("%s has more than %d bytes", path, maxSecret)
	case value == "":
		return "", fmt.Errorf("%s is empty", path)
	case strings.ContainsRune(value, 0):
		return "", fmt.Errorf("%s is not a text file", path)
	}
	return value, nil
}
