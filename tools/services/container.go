//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// containerEngine is the one that runs here, or "". A client without its engine
// does not count.
func containerEngine(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, name := range []string{"docker", "podman"} {
		if exec.CommandContext(ctx, name, "info").Run() == nil {
			return name
		}
	}
	return ""
}

// runContainer starts an image, waits until the command ready succeeds in it, and
// returns its address on this machine, "" where no engine runs or the image does
// not start.
func (s *session) runContainer(ctx context.Context, image, port string, options, args []string, ready ...string) (string, error) {
	engine := ""
	if s.containers {
		engine = containerEngine(ctx)
	}
	if engine == "" {
		return "", ctx.Err()
	}
	say("starting a container of %s with %s", image, engine)
	name := "tollgate-services-" + strings.ToLower(rand.Text())
	s.cleanups = append(s.cleanups, func() {
		exec.Command(engine, "rm", "--force", "--volumes", name).Run()
	})
	argv := append([]string{"run", "--detach", "--name", name, "--publish", "127.0.0.1::" + port}, options...)
	run := exec.CommandContext(ctx, engine, append(append(argv, image), args...)...)
	run.Stderr = os.Stderr // the pull's progress
	if err := run.Run(); err != nil {
		say("%s run: %v; trying local programs", engine, err)
		return "", ctx.Err()
	}
	if err := eventually(ctx, func(ctx context.Context) error {
		return output(exec.CommandContext(ctx, engine, append([]string{"exec", name}, ready...)...))
	}); err != nil {
		return "", err
	}
	address, err := exec.CommandContext(ctx, engine, "port", name, port+"/tcp").Output()
	if err != nil {
		return "", fmt.Errorf("%s port: %w", engine, err)
	}
	first, _, _ := strings.Cut(string(address), "\n")
	return strings.TrimSpace(first), nil
}
