// Thirdparty writes the .proto files that Tollgate's own protos import into a
// directory, so that buf finds them without a registry. Their source is the
// descriptors compiled into Go modules: go.sum pins them, nothing is
// downloaded that `go mod download` would not verify.
//
// The well-known types (google/protobuf/*) are left out; buf carries its own.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// roots are the files that protos may import. What these import in turn is
// written too.
var roots = []protoreflect.FileDescriptor{
	annotations.File_google_api_annotations_proto,
	validate.File_buf_validate_validate_proto,
	errdetails.File_google_rpc_error_details_proto, // details of errors, for clients that are not Go
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("thirdparty: ")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: thirdparty <output directory>")
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

// run writes the roots and their imports below dir, along with a .gitignore
// that keeps dir out of version control. Files it did not write stay.
func run(dir string) error {
	files := make(map[string]protoreflect.FileDescriptor)
	for _, root := range roots {
		collect(files, root)
	}
	printer := &protoprint.Printer{SortElements: true}
	for path, file := range files {
		text, err := printer.PrintProtoToString(file)
		if err != nil {
			return fmt.Errorf("print %q: %w", path, err)
		}
		if err := write(filepath.Join(dir, filepath.FromSlash(path)), text); err != nil {
			return err
		}
	}
	return write(filepath.Join(dir, ".gitignore"), "*\n")
}

// collect adds file and everything it imports to files, by path.
func collect(files map[string]protoreflect.FileDescriptor, file protoreflect.FileDescriptor) {
	if strings.HasPrefix(file.Path(), "google/protobuf/") || files[file.Path()] != nil {
		return
	}
	files[file.Path()] = file
	imports := file.Imports()
	for i := range imports.Len() {
		collect(files, imports.Get(i).FileDescriptor)
	}
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("create directory of %q: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	return nil
}
