package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// secretVariables may each be given as a file instead: TOLLGATE_X_FILE names
// the file that holds the value of TOLLGATE_X, as container secrets have it.
func secretVariables() []string {
	return []string{"TOLLGATE_DATABASE_URL", "TOLLGATE_REDIS_URL", "TOLLGATE_MASTER_KEY", "TOLLGATE_ADMIN_PASSWORD"}
}

// maxSecret bounds what is read of a secret's file, in bytes.
const maxSecret = 64 << 10

// readSecretFiles sets every variable whose file is named. Newlines at the
// file's end are not part of the value. No error holds any of the content.
func readSecretFiles() error {
	for _, name := range secretVariables() {
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
