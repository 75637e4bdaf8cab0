//go:build unix

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	redisEnv   = "TOLLGATE_TEST_REDIS_URL"
	redisImage = "docker.io/library/redis:7.4.11-alpine3.21"
)

func (s *session) startRedis(ctx context.Context) error {
	if given := os.Getenv(redisEnv); given != "" {
		if err := pingURL(given); err != nil {
			return fmt.Errorf("%s is set, but its server does not answer: %w; start that server, or unset the variable to have one started", redisEnv, err)
		}
		say("Redis: using %s", redisEnv)
		s.redisURL = given
		return nil
	}

	addr, err := s.runContainer(ctx, "Redis", redisImage, "6379", nil,
		[]string{"--save", "", "--appendonly", "no"}, redisReady)
	if err == nil {
		s.useRedis(addr)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.Is(err, errNoEngine) {
		say("Redis: no container, trying other ways: %v", err)
	}

	bin := redisBin()
	if bin == "" {
		if err := s.installPackage(ctx, "redis-server"); err != nil {
			return fmt.Errorf("no Redis: found no working container engine and no local server, and %w\n"+
				"Do one of these:\n"+
				"  start Docker or Podman\n"+
				"  install Redis (macOS: brew install redis; Fedora: dnf install redis; Debian: apt-get install redis-server)\n"+
				"  set %s=redis://host:6379/0", err, redisEnv)
		}
		if bin = redisBin(); bin == "" {
			return fmt.Errorf("the package redis-server is installed, but there is no redis-server on PATH; set %s to a server of yours", redisEnv)
		}
	}
	if err := s.localRedis(ctx, bin); err != nil {
		return fmt.Errorf("start Redis from %s: %w", bin, err)
	}
	return nil
}

func (s *session) useRedis(addr string) {
	s.redisURL = "redis://" + addr + "/0"
	s.env = append(s.env, redisEnv+"="+s.redisURL)
}

func (s *session) localRedis(ctx context.Context, bin string) error {
	dir, err := s.privateDir("redis")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	say("Redis: starting a private one from %s", bin)
	addr := "127.0.0.1:" + port
	s.keeper.add("redis", addr)
	srv, err := s.startServer(dir, bin, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir)
	if err != nil {
		return err
	}
	if err := waitReady(ctx, srv, func() error { return redisReady(addr) }); err != nil {
		return err
	}
	s.useRedis(addr)
	return nil
}

func redisBin() string {
	for _, name := range []string{
		"redis-server",
		"/usr/bin/redis-server",
		"/opt/homebrew/bin/redis-server",
		"/usr/local/bin/redis-server",
		"/home/linuxbrew/.linuxbrew/bin/redis-server",
	} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func redisReady(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	return redisCall(conn, "+PONG", "PING")
}

func pingURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss") || u.Hostname() == "" {
		return errors.New("it must look like redis://host:6379/0") // without a password in it
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	var conn net.Conn
	if u.Scheme == "rediss" {
		// Only for the ping; the tests check the certificate as they see fit.
		conn, err = tls.DialWithDialer(dialer, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	} else {
		conn, err = dialer.Dial("tcp", addr)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if password, ok := u.User.Password(); ok {
		auth := []string{"AUTH", password}
		if name := u.User.Username(); name != "" {
			auth = []string{"AUTH", name, password}
		}
		if err := redisCall(conn, "+OK", auth...); err != nil {
			return err
		}
	}
	return redisCall(conn, "+PONG", "PING")
}

// redisCall sends one command and expects a one-line answer.
func redisCall(conn net.Conn, want string, words ...string) error {
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := io.WriteString(conn, request.String()); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if line = strings.TrimSpace(line); line != want {
		return fmt.Errorf("it answers %s with %q", words[0], line)
	}
	return nil
}

// stopRedis is content when nobody listens any more. A server which shuts
// down answers by hanging up.
func stopRedis(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return nil
	}
	defer conn.Close()
	err = redisCall(conn, "", "SHUTDOWN", "NOSAVE")
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}
