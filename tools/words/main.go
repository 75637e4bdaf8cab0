// Command words refuses the words of words.txt in the files that git tracks: the
// project is written in the field's standard terms, so that a reader needs no
// glossary.
package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed words.txt
var list string

type word struct {
	pattern *regexp.Regexp
	better  string
}

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	hits, err := check(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "words:", err)
		os.Exit(2)
	}
	for _, hit := range hits {
		fmt.Println(hit)
	}
	if len(hits) > 0 {
		os.Exit(1)
	}
}

// check returns a line for every hit in the tracked files below dir.
func check(dir string) ([]string, error) {
	files, err := exec.Command("git", "-C", dir, "ls-files", "-z", "--", "*.go", "*.md", "*.proto", "*.y*ml", "*.sh", "*.sql", "*.lua", "*.json", "*.ts", "Makefile", "Dockerfile",
		":!gen", ":!sdk/examples/orders/gen", ":!sdk/typescript/src/gen", ":!sdk/typescript/examples/gen", ":!tools/words").Output()
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", dir, err)
	}
	words := parse(list)
	var hits []string
	for name := range strings.SplitSeq(strings.TrimRight(string(files), "\x00"), "\x00") {
		file, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(file)
		for n := 1; lines.Scan(); n++ {
			for _, w := range words {
				if found := w.pattern.FindString(split(lines.Text())); found != "" {
					hits = append(hits, fmt.Sprintf("%s:%d: %q, better: %s", name, n, found, w.better))
				}
			}
		}
		file.Close()
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	slices.Sort(hits)
	return hits, nil
}

func parse(list string) []word {
	var words []word
	for line := range strings.Lines(list) {
		if pattern, better, ok := strings.Cut(strings.TrimSpace(line), "  "); ok && !strings.HasPrefix(line, "#") {
			words = append(words, word{regexp.MustCompile(`(?i)\b(` + pattern + `)\b`), strings.TrimSpace(better)})
		}
	}
	return words
}

var humps = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// split separates the words of identifiers: maxRooms and max_rooms.
func split(line string) string {
	return strings.ReplaceAll(humps.ReplaceAllString(line, "$1 $2"), "_", " ")
}
