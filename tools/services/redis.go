//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

const (
	redisEnv   = "TOLLGATE_TEST_REDIS_URL"
	redisImage = "docker.io/library/redis:7.4.11-alpine3.21"
)

func (s *session) startRedis(ctx context.Context) error {
	if s.redisURL = os.Getenv(redisEnv); s.redisURL != "" {
		say("Redis: using %s", redisEnv)
		return reachable(s.redisURL, "6379")
	}
	address, err := s.runContainer(ctx, redisImage, "6379", nil, []string{"--save", ""}, "redis-cli", "ping")
	if err != nil {
		return err
	}
	if address == "" {
		program, err := s.findOrInstall("redis-server", func() string {
			return firstProgram("redis-server", "/opt/homebrew/bin/redis-server", "/usr/local/bin/redis-server")
		})
		if err != nil {
			return err
		}
		if address, err = s.localRedis(ctx, program); err != nil {
			return err
		}
	}
	s.redisURL = "redis://" + address + "/0"
	s.env = append(s.env, redisEnv+"="+s.redisURL)
	return nil
}

func (s *session) localRedis(ctx context.Context, program string) (address string, err error) {
	say("Redis: starting a private one from %s", program)
	dir, err := s.privateDir()
	if err != nil {
		return "", err
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	logFile := filepath.Join(dir, "log")
	server := s.command(context.WithoutCancel(ctx), dir, program,
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", dir, "--logfile", logFile)
	if err := server.Start(); err != nil {
		return "", err
	}
	s.cleanups = append(s.cleanups, func() {
		server.Process.Kill()
		server.Wait()
	})
	if err := eventually(ctx, func(ctx context.Context) error {
		return output(s.command(ctx, dir, filepath.Join(filepath.Dir(program), "redis-cli"), "-e", "-p", port, "ping"))
	}); err != nil {
		log, _ := os.ReadFile(logFile)
		return "", fmt.Errorf("%w\n%s", err, log)
	}
	return "127.0.0.1:" + port, nil
}
