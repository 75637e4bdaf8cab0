package main_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// echo is a service behind a proxy. It answers what it received, and reads a
// request as little as it can, so that nothing is refused that another service
// would take.
type echo struct {
	address string
	arrived atomic.Int64
}

// received is a request as the service got it.
type received struct {
	Target string // of the request line
	Method string
	Header [][2]string // in order, as they were spelled
	Body   []byte

	Trailer [][2]string
}

// all are the values of a header as a service sees it that takes "_" for "-".
func (r *received) all(name string) []string {
	var values []string
	for _, h := range r.Header {
		if strings.EqualFold(strings.ReplaceAll(h[0], "_", "-"), name) {
			values = append(values, h[1])
		}
	}
	return values
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	backendtest.Must(t, err)
	e := &echo{address: l.Addr().String()}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	t.Cleanup(func() { l.Close() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { e.serve(conn) })
		}
	})
	return e
}

// serve answers one request of a connection.
func (e *echo) serve(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(apitest.Timeout))
	got, err := readRequest(conn)
	if err != nil {
		return
	}
	e.arrived.Add(1)
	answer, err := json.Marshal(got)
	if err != nil {
		return
	}
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(answer), answer)
}

func readRequest(conn net.Conn) (*received, error) {
	r := bufio.NewReader(conn)
	first, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	method, rest, _ := strings.Cut(strings.TrimRight(first, "\r\n"), " ")
	got := &received{Method: method, Target: strings.TrimSuffix(strings.TrimSuffix(rest, " HTTP/1.1"), " HTTP/1.0")}
	fields := func(to *[][2]string) error {
		for {
			line, err := r.ReadString('\n')
			line = strings.TrimRight(line, "\r\n")
			if err != nil || line == "" {
				return err
			}
			name, value, _ := strings.Cut(line, ":")
			*to = append(*to, [2]string{name, strings.TrimSpace(value)})
		}
	}
	if err := fields(&got.Header); err != nil {
		return nil, err
	}
	if len(got.all("Expect")) > 0 {
		fmt.Fprint(conn, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	if length := got.all("Content-Length"); len(length) == 1 {
		n, err := strconv.ParseInt(length[0], 10, 64)
		if err != nil {
			return nil, err
		}
		got.Body, err = io.ReadAll(io.LimitReader(r, n))
		return got, err
	}
	if slices.Equal(got.all("Transfer-Encoding"), []string{"chunked"}) {
		if got.Body, err = io.ReadAll(httputil.NewChunkedReader(r)); err != nil {
			return nil, err
		}
		return got, fields(&got.Trailer)
	}
	return got, nil
}

// reply is what a client got from a proxy.
type reply struct {
	status  int
	header  http.Header
	body    []byte
	arrived *received // nil: the service did not get the request
}

// clientIP is where the clients of proxies are: where a system has more than one
// address of its own, not where the proxies are.
var (
	clientIP = map[bool]string{true: "127.0.0.2", false: "127.0.0.1"}[runtime.GOOS == "linux"]
	client   = net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientIP)}}
)

// send sends a request byte for byte. A status of 0 is a proxy that hung up.
func send(t *testing.T, address, request string) reply {
	t.Helper()
	conn, err := client.Dial("tcp", address)
	backendtest.Must(t, err)
	defer conn.Close()
	backendtest.Must(t, conn.SetDeadline(time.Now().Add(apitest.Timeout)))
	go io.WriteString(conn, request) // a proxy may answer before it has read all
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		if os.IsTimeout(err) {
			t.Fatalf("no answer to %.200q", request)
		}
		return reply{}
	}
	defer res.Body.Close()
	r := reply{status: res.StatusCode, header: res.Header}
	r.body, err = io.ReadAll(res.Body)
	backendtest.Must(t, err)
	if res.StatusCode == http.StatusOK {
		backendtest.Must(t, json.NewDecoder(bytes.NewReader(r.body)).Decode(&r.arrived))
	}
	return r
}

// message writes a request without a body for a host; lines are further ones of
// the header.
func message(method, target, host string, lines ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", method, target, host,
		strings.Join(append(lines, ""), "\r\n"))
}

// bearer is the line with a credential; none for "".
func bearer(token string) string {
	if token == "" {
		return "Accept: */*"
	}
	return "Authorization: Bearer " + token
}

// addresses are what a proxy's configuration has to be told: its own address, and
// where Tollgate and the service are.
type addresses struct{ proxy, tollgate, service, key string }

// proxy is a program that tests put in front of a service, with the files that
// deploy has for it.
type proxy struct {
	variable, name string
	start          func(t *testing.T, dir string, at addresses) (env, args []string)
}

// file finds the program.
func (p proxy) file() (string, error) { return program(p.variable, p.name) }

// program finds what make test installs: the program that a variable names, or that of
// PATH.
func program(variable, name string) (string, error) {
	file, err := exec.LookPath(cmp.Or(os.Getenv(variable), name))
	if err != nil {
		file, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return "", fmt.Errorf("there is no %s on PATH; install it (Debian: apt-get install %[1]s), name it in %s, or use make test", name, variable)
	}
	return file, nil
}

// run starts the program and waits until it listens. It returns its address.
func (p proxy) run(t *testing.T, tollgate, service, key string) string {
	t.Helper()
	dir := t.TempDir()
	at := addresses{proxy: freeAddress(t), tollgate: strings.TrimPrefix(tollgate, "http://"), service: service, key: key}
	env, args := p.start(t, dir, at)
	process := run(t, p.file, dir, append(env, "HOME="+dir, "PATH="+os.Getenv("PATH")), "", args...)
	apitest.Eventually(t, p.name+" listens", func() bool {
		select {
		case <-process.exited:
			t.Fatalf("%s ended: %v", p.name, process.err)
		default:
		}
		conn, err := net.Dial("tcp", at.proxy)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return at.proxy
}

var given sync.Map // the ports of freeAddress

// freeAddress is one of this machine that no test has had, below the ports that the
// system gives to others.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := "127.0.0.1:" + strconv.Itoa(20000+rand.IntN(10000))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// deployed copies a file of deploy to dir, with each old text replaced by the new
// one after it. Every old text must be there.
func deployed(t *testing.T, dir, file string, replacements ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../deploy", file))
	backendtest.Must(t, err)
	for i := 0; i < len(replacements); i += 2 {
		if !bytes.Contains(text, []byte(replacements[i])) {
			t.Fatalf("deploy/%s has no %q", file, replacements[i])
		}
		text = bytes.ReplaceAll(text, []byte(replacements[i]), []byte(replacements[i+1]))
	}
	backendtest.Must(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600))
}
