package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/app"
)

// maxSecret bounds what is read of a secret's file, in bytes.
const maxSecret = 64 << 10

// readSecretFiles sets every secret's variable whose file is named, see
// app.Secrets. Newlines at the file's end are not part of the value. No error
// holds any of the content.
func readSecretFiles() error {
	for _, name := range app.Secrets() {
		path := os.Getenv(name + "_FILE")
		if path == "" {
			continue
		}
		if os.Getenv(name) != "" {
			return fmt.Errorf("%s and %s_FILE are both set; keep one", name, name)
		}
		value, err := readSecretFile(path)
		if err != nil {
			return fmt.Errorf("%s_FILE: %w", name, err)
		}
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("%s_FILE: %s does not hold a line of text", name, path)
		}
	}
	return nil
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
	}
	return value, nil
}
