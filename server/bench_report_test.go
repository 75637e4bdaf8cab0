package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

const (
	performancePage = "../docs/performance.md"
	plotDir         = "../docs/performance"
)

// figures are what one run measured.
type figures struct {
	embedded, backends, sdk []*row
	curves                  []curve
	principal               float64 // bytes that each cached one takes
}

// sections are the parts of the page that a run writes, by the names of their
// markers.
func (b *bench) sections(f figures) map[string]string {
	var curves strings.Builder
	for _, c := range f.curves {
		fmt.Fprintf(&curves, "![%s: %s by %s](performance/%s)\n\n%s\n", c.title, c.y, c.x, c.file, c.table())
	}
	return map[string]string{
		"machine": b.machine(), "asked": asked(f), "embedded": table(f.embedded), "backends": table(f.backends),
		"sdk": sdkTable(f.sdk), "curves": strings.TrimSuffix(curves.String(), "\n"),
		"memory": fmt.Sprintf("%s bytes of the heap for each user who is remembered with a token.\n", count(f.principal)),
	}
}

var benchSections = []string{"machine", "asked", "embedded", "backends", "sdk", "curves", "memory"}

// report prints what was measured, and with TOLLGATE_BENCH_UPDATE writes it to
// the page and the plots. Where nothing was measured it only tries to.
func (b *bench) report(t *testing.T, f figures) {
	t.Helper()
	sections := b.sections(f)
	page, err := os.ReadFile(performancePage)
	backendtest.Must(t, err)
	for name, text := range sections {
		page, err = between(page, name, text)
		backendtest.Must(t, err)
	}
	for _, c := range f.curves {
		if strings.Contains(c.plot(), "%!") { // of fmt
			t.Errorf("%s is no plot:\n%s", c.file, c.plot())
		}
	}
	if b.each == 0 {
		return
	}
	for _, name := range benchSections {
		fmt.Printf("\n## %s\n\n%s", name, sections[name])
	}
	if os.Getenv("TOLLGATE_BENCH_UPDATE") == "" {
		return
	}
	backendtest.Must(t, os.WriteFile(performancePage, page, 0o644))
	backendtest.Must(t, os.MkdirAll(plotDir, 0o755))
	for _, c := range f.curves {
		backendtest.Must(t, os.WriteFile(filepath.Join(plotDir, c.file), []byte(c.plot()), 0o644))
	}
}

// between replaces what is between a section's markers.
func between(page []byte, name, text string) ([]byte, error) {
	begin, end := fmt.Appendf(nil, "<!-- bench: %s -->\n", name), []byte("<!-- /bench -->\n")
	before, rest, found := bytes.Cut(page, begin)
	_, after, ended := bytes.Cut(rest, end)
	if !found || !ended {
		return nil, fmt.Errorf("%s has no markers %q and %q", performancePage, begin, end)
	}
	return fmt.Appendf(nil, "%s%s\n%s\n%s%s", before, begin, text, end, after), nil
}

// machine says on what and when was measured.
func (b *bench) machine() string {
	first := func(file, pattern string) string {
		text, err := os.ReadFile(file)
		if m := regexp.MustCompile(pattern).FindSubmatch(text); err == nil && m != nil {
			return string(m[1])
		}
		return "unknown"
	}
	says := func(pattern, program string, args ...string) string {
		out, _ := exec.Command(program, args...).CombinedOutput()
		if m := regexp.MustCompile(pattern).FindSubmatch(out); m != nil {
			return string(m[1])
		}
		return "unknown"
	}
	wrk, _ := generator("TOLLGATE_TEST_WRK", "wrk", "wrk")
	h2load, _ := generator("TOLLGATE_TEST_H2LOAD", "h2load", "nghttp2-client")
	mode := "the quick mode"
	if b.all {
		mode = "the full mode"
	}
	return fmt.Sprintf("%s, commit %s, %s: %d runs of %s for each case, %d callers. %d × %s, %s GiB of memory, Linux %s, %s, wrk %s, h2load %s; load averages at the start %s.\n",
		time.Now().UTC().Format("2006-01-02"), says(`([0-9a-f]+)`, "git", "rev-parse", "--short", "HEAD"), mode, b.rounds, b.each, benchCallers,
		runtime.NumCPU(), first("/proc/cpuinfo", `model name\s*: (.*)`), gibibytes(first("/proc/meminfo", `MemTotal:\s*(\d+)`)),
		first("/proc/sys/kernel/osrelease", `(\S+)`), runtime.Version(),
		says(`wrk (?:debian/)?(\S+)`, wrk, "--version"), says(`nghttp2/(\S+)`, h2load, "--version"), bytes.Join(bytes.Fields(b.busy)[:3], []byte(", ")))
}

// gibibytes is an amount that /proc has in KiB.
func gibibytes(kib string) string {
	n, _ := strconv.Atoi(kib)
	return fmt.Sprint((n + 1<<19) >> 20)
}

// find is the row of a call over a wire, nil where it was not measured.
func find(rows []*row, wire, name string) *row {
	for _, r := range rows {
		if r.wire == wire && r.name == name {
			return r
		}
	}
	return nil
}

// asked writes what was asked of the server beside what was measured.
func asked(f figures) string {
	var b strings.Builder
	b.WriteString("| What | Asked | Measured |\n|---|---|--:|\n")
	write := func(what, wanted string, measured func(rows ...*row) string, rows ...*row) {
		for _, r := range rows {
			if r == nil {
				return
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", what, wanted, measured(rows...))
	}
	cpu := func(r *row) float64 { return r.median(func(s sample) float64 { return float64(s.cpu) }) }
	rate := func(r *row) float64 { return r.median(sample.rate) }
	above := func(r ...*row) string { return micros(cpu(r[0]) - cpu(r[1])) }
	share := func(r ...*row) string { return fmt.Sprintf("%.2f", cpu(r[0])/cpu(r[1])) }
	times := func(r ...*row) string { return fmt.Sprintf("%.2f", rate(r[0])/rate(r[1])) }
	on := func(rows []*row, w wire, name string) *row { return find(rows, w.name, name) }
	e, p := f.embedded, f.backends
	null := nullOperation.name
	write("Authorize on the gRPC listener: CPU, of that of a null RPC with Connect's gRPC", "≤ 0.5", share, on(e, overGRPCListener, "Authorize"), on(e, overGRPC, null))
	write("the same: calls/s", "≥ 2", times, on(e, overGRPCListener, "Authorize"), on(e, overGRPC, null))
	write("Authorize over Connect, HTTP/1.1: CPU above the null", "≤ 20 µs", above, on(e, overConnect, "Authorize"), on(e, overConnect, null))
	write("Authorize over gRPC, h2c: CPU above the null", "≤ 20 µs", above, on(e, overGRPC, "Authorize"), on(e, overGRPC, null))
	write("Authorize on the gRPC listener: CPU above the null", "≤ 20 µs", above, on(e, overGRPCListener, "Authorize"), on(e, overGRPCListener, null))
	write("three limits in memory: CPU above Authorize without", "≤ 8 µs", above, on(e, overConnect, "Authorize, three limits"), on(e, overConnect, "Authorize"))
	leased, memory := on(p, overConnect, "Authorize, three leased limits"), on(e, overConnect, "Authorize, three limits")
	write("three leased limits on Redis: CPU, of that of three in memory", "≤ 1.10", share, leased, memory)
	write("the same: calls of Redis for 1,000 of them", "≤ 1", func(r ...*row) string {
		return digits(1000 * r[0].median(func(s sample) float64 { return s.scripts }))
	}, leased)
	write("SDK, 64 callers: calls/s with shared requests, of those without", "≥ 5", times, find(f.sdk, "64", sdkShared), find(f.sdk, "64", sdkSeparate))
	write("RecordEvent on PostgreSQL, 32 callers: calls/s, of those of the null", "≥ 0.5", times, on(p, overConnect, "RecordEvent"), on(p, overConnect, null))
	write("RecordEvents on PostgreSQL: events/s", "≥ 40,000", func(r ...*row) string { return count(rate(r[0]) * eventsOfACall) },
		on(p, overConnect, "RecordEvents, 1,000 in a call, 4 callers"))
	for _, c := range f.curves {
		if c.file == "users.svg" {
			first, last := c.xs()[0], c.xs()[len(c.xs())-1]
			for _, l := range c.lines[:2] {
				null := c.lines[2] // the machine's part of the difference
				fmt.Fprintf(&b, "| Authorize %s: CPU with %s users, of that with %s; the same as multiples of the null beside each | 0.85 to 1.15 | %.2f; %.2f |\n",
					l.name, count(last), count(first), l.at(last)/l.at(first), l.at(last)/l.at(first)*null.at(first)/null.at(last))
			}
		}
	}
	return b.String()
}

// sdkTable writes the rows of the SDK, whose caller is in the same process.
func sdkTable(rows []*row) string {
	var b strings.Builder
	b.WriteString("| Callers | Call | calls/s | p50 | p99 | CPU of the server | CPU of the caller | of a null's calls/s |\n|---|---|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", r.wire, r.name,
			count(r.median(sample.rate)), micros(r.median(func(s sample) float64 { return float64(s.p50) })),
			micros(r.median(func(s sample) float64 { return float64(s.p99) })), micros(r.median(func(s sample) float64 { return float64(s.cpu) })),
			micros(r.median(func(s sample) float64 { return float64(s.own) })), r.ratio(sample.rate))
	}
	return b.String()
}
