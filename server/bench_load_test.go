package main_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// loaded is what a load generator saw.
type loaded struct {
	requests int
	elapsed  time.Duration
	p50, p99 time.Duration
}

// generator finds the program that a variable names, else the one of PATH.
func generator(variable, name, pkg string) (string, error) {
	file, err := exec.LookPath(cmp.Or(os.Getenv(variable), name))
	if err != nil {
		return "", fmt.Errorf("there is no %s on PATH; install it (Debian: apt-get install %s), name it in %s, or use make bench", name, pkg, variable)
	}
	return file, nil
}

// load keeps a number of callers busy for a time, with each on a connection of
// its own. The requests are sent in turns; over HTTP/2 there is only one.
// Anything but an answer of 2xx is an error.
func (w wire) load(ctx context.Context, dir, address string, requests []httpRequest, callers int, d time.Duration) (loaded, error) {
	if w.http2 {
		return loadH2(ctx, dir, address, requests[0], callers, d)
	}
	return loadH1(ctx, dir, address, requests, callers, d)
}

// wrkScript sends the requests of a file, and prints what the library counted:
// wrk's own lines are rounded.
const wrkScript = `
local requests, turn = {}, 0
function init(args)
   local file = assert(io.open(args[1], "rb"))
   for line in function() return file:read("*l") end do
      requests[#requests + 1] = file:read(tonumber(line))
   end
   file:close()
   io.stderr:write("READY\n")
end
function request()
   turn = turn % #requests + 1
   return requests[turn]
end
function done(summary, latency)
   local e = summary.errors
   io.write(string.format('\nDONE {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.connect, e.read, e.write, e.status, e.timeout))
end
`

// loadH1 loads with wrk.
func loadH1(ctx context.Context, dir, address string, requests []httpRequest, callers int, d time.Duration) (loaded, error) {
	wrk, err := generator("TOLLGATE_TEST_WRK", "wrk", "wrk")
	if err != nil {
		return loaded{}, err
	}
	var all bytes.Buffer
	for _, r := range requests {
		raw := r.raw(address)
		fmt.Fprintf(&all, "%d\n%s", len(raw), raw)
	}
	script, file := filepath.Join(dir, "wrk.lua"), filepath.Join(dir, "requests")
	if err := os.WriteFile(script, []byte(wrkScript), 0o600); err != nil {
		return loaded{}, err
	}
	if err := os.WriteFile(file, all.Bytes(), 0o600); err != nil {
		return loaded{}, err
	}
	// wrk counts in whole seconds, and ends well at an interrupt.
	text, err := runLoad(ctx, d, wrk, "-t1", fmt.Sprintf("-c%d", callers), "-d600s", "--timeout", "10s", "-s", script, "http://"+address+"/", "--", file)
	if err != nil {
		return loaded{}, err
	}
	_, line, _ := strings.Cut(text, "\nDONE ")
	var said struct {
		Requests, Micros, P50, P99            int
		Connect, Read, Write, Status, Timeout int
	}
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		return loaded{}, fmt.Errorf("wrk: %w\n%s", err, text)
	}
	if said.Requests == 0 || said.Connect+said.Read+said.Write+said.Status+said.Timeout > 0 {
		return loaded{}, fmt.Errorf("wrk: requests failed:\n%s", text)
	}
	micros := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	return loaded{said.Requests, micros(said.Micros), micros(said.P50), micros(said.P99)}, nil
}

var (
	h2loadTotal  = regexp.MustCompile(`requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	h2loadStatus = regexp.MustCompile(`status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
)

// loadH2 loads with h2load.
func loadH2(ctx context.Context, dir, address string, r httpRequest, callers int, d time.Duration) (loaded, error) {
	h2load, err := generator("TOLLGATE_TEST_H2LOAD", "h2load", "nghttp2-client")
	if err != nil {
		return loaded{}, err
	}
	body, log := filepath.Join(dir, "body"), filepath.Join(dir, "log")
	if err := os.WriteFile(body, r.body, 0o600); err != nil {
		return loaded{}, err
	}
	if err := os.RemoveAll(log); err != nil { // h2load appends
		return loaded{}, err
	}
	args := []string{"-D", fmt.Sprintf("%dms", d.Milliseconds()), "-c", strconv.Itoa(callers), "-m", "1", "-t", "1", "--log-file", log, "-H", ":method: " + r.method}
	if len(r.body) > 0 { // it cannot read an empty file
		args = append(args, "-d", body)
	}
	for i := 0; i < len(r.header); i += 2 {
		args = append(args, "-H", strings.ToLower(r.header[i])+": "+r.header[i+1])
	}
	text, err := runLoad(ctx, 0, h2load, append(args, "http://"+address+r.path)...)
	if err != nil {
		return loaded{}, err
	}
	total, status := h2loadTotal.FindStringSubmatch(text), h2loadStatus.FindStringSubmatch(text)
	if total == nil || status == nil || total[1] == "0" || total[1] != total[2] || strings.Join(slices.Concat(total[3:], status[1:]), "") != "000000" {
		return loaded{}, fmt.Errorf("h2load: requests failed:\n%s", text)
	}
	return readH2Log(log)
}

// readH2Log reads a line for each request: when it began, its status, how long it
// took, in microseconds.
func readH2Log(file string) (loaded, error) {
	f, err := os.Open(file)
	if err != nil {
		return loaded{}, err
	}
	defer f.Close()
	var took []int
	first, last := math.MaxInt, 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) < 3 || fields[1] != "200" {
			return loaded{}, fmt.Errorf("h2load: a request failed: %q", lines.Text())
		}
		began, err1 := strconv.Atoi(fields[0])
		micros, err2 := strconv.Atoi(fields[2])
		if err := cmp.Or(err1, err2); err != nil {
			return loaded{}, fmt.Errorf("h2load: %q: %w", lines.Text(), err)
		}
		first, last = min(first, began), max(last, began+micros)
		took = append(took, micros)
	}
	if len(took) == 0 {
		return loaded{}, fmt.Errorf("h2load: %s has no requests", file)
	}
	slices.Sort(took)
	micros := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	return loaded{len(took), micros(last - first), micros(took[len(took)/2]), micros(took[len(took)*99/100])}, nil
}

// runLoad runs a program to its end, or interrupts it a time after it said that it
// is ready.
func runLoad(ctx context.Context, interrupt time.Duration, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out bytes.Buffer
	said := newOutput()
	cmd.Stdout, cmd.Stderr = &out, said
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ended := make(chan struct{})
	if interrupt > 0 {
		go interruptReady(cmd.Process, said, interrupt, ended)
	}
	err := cmd.Wait()
	close(ended)
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", filepath.Base(program), err, &out, said)
	}
	return out.String(), nil
}

// interruptReady interrupts a program again and again, because wrk sleeps on when
// the first one comes before it sleeps.
func interruptReady(p *os.Process, said *output, after time.Duration, ended <-chan struct{}) {
	for {
		text, grown := said.now()
		if strings.Contains(text, "READY") {
			break
		}
		select {
		case <-grown:
		case <-ended:
			return
		}
	}
	for wait := after; ; wait = 50 * time.Millisecond {
		select {
		case <-time.After(wait):
			p.Signal(os.Interrupt)
		case <-ended:
			return
		}
	}
}
