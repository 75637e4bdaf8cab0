package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/app"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/cli"
	"github.com/tollgatehq/tollgate/server/internal/contract"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

//go:generate go test . -run ^Test((Configuration|Permissions)Doc|OpenAPI)$ -update
//go:generate go test ./internal/cli/access -run ^TestSchemaIsFresh$ -update

var update = flag.Bool("update", false, "write what the documents must say instead of comparing it")

// TestConfigurationDoc compares docs/configuration.md with the flags and
// commands of this program. Hidden flags are left out.
func TestConfigurationDoc(t *testing.T) {
	t.Parallel()
	program, err := kong.New(&commands{}, kong.Name("tollgate"), kong.Vars{"version": ""})
	backendtest.Must(t, err)
	checkDoc(t, "configuration.md", map[string]string{
		"flags": flagTable(program.Model.Node), "secrets": secretList(), "commands": commandTable(program.Model),
	})
	client := cli.Model()
	checkDoc(t, "cli.md", map[string]string{"flags": flagTable(client.Node), "commands": commandTable(client)})
}

// TestPermissionsDoc compares docs/api.md with what the contract's RPCs ask for.
func TestPermissionsDoc(t *testing.T) {
	t.Parallel()
	rpcs := map[string][]string{contract.PermissionConditions: {"WatchPolicy with `conditions`, besides the next"}}
	protoregistry.GlobalFiles.RangeFilesByPackage("tollgate.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				guard, _ := proto.GetExtension(methods.Get(j).Options(), tollgatev1.E_Guard).(*tollgatev1.Guard)
				if p := guard.GetPermission(); p != "" {
					rpcs[p] = append(rpcs[p], string(methods.Get(j).Name()))
				}
			}
		}
		return true
	})
	var b strings.Builder
	b.WriteString("| Permission | Calls |\n|---|---|\n")
	for _, p := range slices.Sorted(maps.Keys(rpcs)) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", p, strings.Join(slices.Sorted(slices.Values(rpcs[p])), ", "))
	}
	checkDoc(t, "api.md", map[string]string{"permissions": b.String()})
}

// checkDoc compares the sections of a document with what they must be, or, with
// -update, writes them.
func checkDoc(t *testing.T, name string, sections map[string]string) {
	t.Helper()
	path := filepath.Join("..", "docs", name)
	content, err := os.ReadFile(path)
	backendtest.Must(t, err)
	want := string(content)
	for section, body := range sections {
		want = replaceSection(t, want, section, body)
	}
	checkFile(t, path, string(content), want, "go generate ./server")
}

// checkFile fails when a file's content is not want, or, with -update, writes it.
func checkFile(t *testing.T, path, content, want, command string) {
	t.Helper()
	switch {
	case content == want:
	case *update:
		backendtest.Must(t, os.WriteFile(path, []byte(want), 0o644))
	default:
		t.Errorf("%s is not what the program says; run: %s", path, command)
	}
}

// replaceSection returns text with the lines between the markers of the named
// section replaced by body.
func replaceSection(t *testing.T, text, name, body string) string {
	t.Helper()
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
	head, rest, found := strings.Cut(text, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("the document has no section %s", name)
	}
	return head + begin + body + end + tail
}

func flagTable(node *kong.Node) string {
	var b strings.Builder
	b.WriteString("| Flag | Environment | Default | |\n|---|---|---|---|\n")
	for _, f := range node.Flags {
		if f.Hidden || len(f.Envs) == 0 {
			continue
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Name, strings.Join(f.Envs, "`, `"), code(f.Default), cell(f.Help))
	}
	return b.String()
}

func secretList() string {
	var b strings.Builder
	for _, name := range app.Secrets() {
		fmt.Fprintf(&b, "- `%s_FILE`\n", name)
	}
	return b.String()
}

func commandTable(program *kong.Application) string {
	var b strings.Builder
	b.WriteString("| Command | |\n|---|---|\n")
	for _, leaf := range program.Leaves(true) {
		line := leaf.Path()
		for _, arg := range leaf.Positional {
			line += " " + strings.ToUpper(arg.Name)
		}
		help := leaf.Help
		for _, f := range leaf.Flags {
			if !f.Hidden && f.Name != "help" {
				help += fmt.Sprintf("<br>`--%s`: %s", f.Name, f.Help)
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", line, cell(help))
	}
	return b.String()
}

// code is text as code in a table's cell; empty text is an empty cell.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

// cell escapes what would end a table's cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
