//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

var errNoEngine = errors.New("no working container engine")

// containerEngine is docker or podman, whichever answers; a command line tool
// without an engine behind it does not count.
func (s *session) containerEngine(ctx context.Context) string {
	if s.engine != nil {
		return *s.engine
	}
	found := ""
	for _, name := range []string{"docker", "podman"} {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		cmd := exec.CommandContext(ctx, name, "info")
		cmd.WaitDelay = time.Second
		err := cmd.Run()
		cancel()
		if err == nil {
			found = name
			break
		}
	}
	s.engine = &found
	return found
}

// runContainer starts an image and returns its address on the loopback.
func (s *session) runContainer(ctx context.Context, what, image, port string, env, args []string, ready func(addr string) error) (string, error) {
	engine := s.containerEngine(ctx)
	if engine == "" {
		return "", errNoEngine
	}
	say("%s: starting a container of %s with %s", what, image, engine)
	name := "tollgate-services-" + strings.ToLower(rand.Text())
	s.keeper.add("container", engine, name)

	argv := []string{"run", "--detach", "--name", name, "--publish", "127.0.0.1::" + port}
	for _, e := range env {
		argv = append(argv, "--env", e)
	}
	run := exec.CommandContext(ctx, engine, append(append(argv, image), args...)...)
	run.Stderr = os.Stderr // the pull's progress
	run.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Or it would finish the pull and start a container nobody removes.
	dieWithParent(run.SysProcAttr, syscall.SIGKILL)
	if err := run.Run(); err != nil {
		return "", fmt.Errorf("%s run %s: %w", engine, image, err)
	}
	out, err := exec.CommandContext(ctx, engine, "port", name, port+"/tcp").Output()
	if err != nil {
		return "", fmt.Errorf("%s port: %w", engine, err)
	}
	addr, _, _ := strings.Cut(string(out), "\n")
	addr = strings.TrimSpace(addr)
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return "", fmt.Errorf("%s port: %w", engine, err)
	}
	if err := waitReady(ctx, nil, func() error { return ready(addr) }); err != nil {
		logs, _ := exec.CommandContext(ctx, engine, "logs", "--tail", "20", name).CombinedOutput()
		return "", fmt.Errorf("%s container: %w; the end of its log:\n%s", what, err, logs)
	}
	return addr, nil
}

// The packages' own services must not take the standard ports, and no cluster
// must be made: policy-rc.d and the createcluster.d file are Debian's switches
// for that. Both go away again, unless they were there before. The lock keeps
// two of us from removing each other's.
const installScript = `
set -u
exec 9>/run/lock/tollgate-services && flock 9
policy=/usr/sbin/policy-rc.d
noCluster=/etc/postgresql-common/createcluster.d/tollgate-services.conf
madePolicy=
restore() {
	[ -z "$madePolicy" ] || rm -f "$policy"
	rm -f "$noCluster"
	rmdir /etc/postgresql-common/createcluster.d 2>/dev/null
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
if ! [ -e "$policy" ]; then
	madePolicy=yes
	printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || exit
fi
mkdir -p "${noCluster%/*}" && echo "create_main_cluster = false" >"$noCluster" || exit

install() {
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
		-o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$1" </dev/null
}
# A fresh image has no package lists, an old one outdated lists.
install "$1" || { apt-get update && install "$1"; } || exit
if [ -d /run/systemd/system ]; then systemctl disable --quiet "$1"; fi
`

// installPackage installs a Debian package. It is not interrupted, not even by
// our death: a half-configured package would be the caller's to repair.
func (s *session) installPackage(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.install {
		return errors.New("--no-install forbids to install one")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("there is no apt-get to install one with")
	}
	argv := []string{"sh", "-c", installScript, "sh", name}
	if os.Geteuid() != 0 {
		if err := exec.CommandContext(ctx, "sudo", "-n", "true").Run(); err != nil {
			return errors.New("installing one needs root or passwordless sudo")
		}
		argv = append([]string{"sudo", "-n"}, argv...)
	}
	say("installing the package %s (a minute or so, this once; its own service stays off)", name)
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := os.CreateTemp("", "tollgate-apt-") // not a pipe, which would break when we die
	if err != nil {
		return err
	}
	defer out.Close()
	defer os.Remove(out.Name())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get install %s failed: %w; the end of its output:\n%s", name, err, tail(out.Name()))
	}
	return ctx.Err()
}
