package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	sdk "github.com/tollgatehq/tollgate/sdk"
	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// sdkCases is sdk/testdata/cases.json, which the README beside it explains.
type sdkCases struct {
	Servers map[string]map[string]string // environment by name
	Setup   []sdkStep
	Cases   []sdkCase
}

type sdkCase struct {
	Name    string
	Server  string // empty: the one of the setup
	Setup   []sdkStep
	Client  sdkClient
	Refused bool // no client can be made
	Steps   []sdkStep
}

type sdkClient struct {
	URL, APIKey   *string
	TimeoutMs     *int
	Retries       *int
	OnUnavailable string
	Unreachable   bool
	Script        []json.RawMessage
}

// sdkStep is a call of the SDK, or of the REST API when it has a path.
type sdkStep struct {
	Call string
	Args any
	As   *string

	Method, Path string
	Body         any
	Save         map[string]string

	Until       bool
	Want, Error any
	Requests    *int64
}

// TestSDKCases drives package sdk by the cases that the SDKs have in common.
func TestSDKCases(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../sdk/testdata/cases.json")
	backendtest.Must(t, err)
	var file sdkCases
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	decoder.UseNumber() // a revision may be larger than a float64 holds exactly
	backendtest.Must(t, decoder.Decode(&file))

	shared := serveAdmin(t)
	saved := sdkSaved{"admin": shared.Token, "url": shared.URL}
	for _, step := range file.Setup {
		saved.rest(t, shared.Client, step)
	}
	brief := map[string]apitest.Client{"": shared.Client}
	for name, env := range file.Servers {
		list := []string{"TOLLGATE_ADMIN_PASSWORD=" + adminPassword}
		for variable, value := range env {
			list = append(list, variable+"="+value)
		}
		brief[name] = serve(t, t.TempDir(), list...).Client
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) { c.run(t, brief[c.Server], maps.Clone(saved)) })
	}
}

func (c sdkCase) run(t *testing.T, server apitest.Client, saved sdkSaved) {
	for _, step := range c.Setup {
		saved.rest(t, server, step)
	}
	client, requests, err := c.client(t, server.URL, saved)
	if c.Refused {
		if err == nil {
			t.Fatal("a client was made")
		}
		saved.noSecretIn(t, err)
		return
	}
	backendtest.Must(t, err)
	for i, step := range c.Steps {
		if step.Path != "" {
			saved.rest(t, server, step)
			continue
		}
		before := requests.Load()
		late := time.Now().Add(apitest.Timeout)
		problem := saved.call(t, client, step)
		for problem != "" && step.Until && time.Now().Before(late) {
			problem = saved.call(t, client, step)
		}
		if problem != "" {
			t.Errorf("step %d, %s: %s", i+1, step.Call, problem)
		}
		if made := requests.Load() - before; step.Requests != nil && made != *step.Requests {
			t.Errorf("step %d, %s: %d requests, want %d", i+1, step.Call, made, *step.Requests)
		}
	}
}

// call makes a call of the SDK, and says in what its result is not the one wanted.
func (s sdkSaved) call(t *testing.T, client *sdk.Client, step sdkStep) string {
	t.Helper()
	args, _ := s.fill(step.Args).(object)
	if step.As != nil {
		args["credential"] = s.fill(*step.As)
	}
	got, err := callSDK(t, client, step.Call, args)
	switch {
	case err != nil && step.Error == nil:
		return "error " + err.Error()
	case err != nil:
		s.noSecretIn(t, err)
		return unlike("error", s.fill(step.Error), plain(t, sdkError(err)))
	case step.Error != nil:
		return fmt.Sprintf("no error, but %v", plain(t, got))
	case step.Want == nil:
		return ""
	}
	return unlike("result", s.fill(step.Want), plain(t, got))
}

// sdkSaved are the values that steps have saved, by name.
type sdkSaved map[string]any

// rest makes a call of the REST API, as the administrator unless it says otherwise.
func (s sdkSaved) rest(t *testing.T, server apitest.Client, step sdkStep) {
	t.Helper()
	as, _ := s["admin"].(string)
	if step.As != nil {
		as, _ = s.fill(*step.As).(string)
	}
	path, _ := s.fill(step.Path).(string)
	a := server.As(as).Call(t, step.Method, path, s.fill(step.Body)).Want(t, 200)
	for name, from := range step.Save {
		if s[name] = a.At(strings.Split(from, ".")...); s[name] == nil {
			t.Fatalf("%s %s: no %s in %s", step.Method, path, from, a.Raw)
		}
	}
	if problem := unlike("body", s.fill(step.Want), plain(t, a.Body)); step.Want != nil && problem != "" {
		t.Errorf("%s %s: %s", step.Method, path, problem)
	}
}

func (s sdkSaved) noSecretIn(t *testing.T, err error) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for name, value := range s {
		secret, _ := value.(string)
		if strings.HasPrefix(secret, "tg_") || strings.HasPrefix(secret, "eyJ") {
			if strings.Contains(text, secret) {
				t.Errorf("the error holds %s: %s", name, text)
			}
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Errorf("the error holds a secret: %s", text)
	}
}

var (
	placeholder = regexp.MustCompile(`\$\{(?:repeat (\S+) (\d+)|now\+(\d+)s|(\w+))\}`)
	whole       = regexp.MustCompile(`^\$\{\w+\}$`)
)

// fill puts what was saved in the place of ${name}. A value that is nothing else keeps
// its type.
func (s sdkSaved) fill(value any) any {
	switch value := value.(type) {
	case string:
		if whole.MatchString(value) {
			return s[value[2:len(value)-1]]
		}
		return placeholder.ReplaceAllStringFunc(value, func(found string) string {
			m := placeholder.FindStringSubmatch(found)
			switch {
			case m[1] != "":
				n, _ := strconv.Atoi(m[2])
				return strings.Repeat(m[1], n)
			case m[3] != "":
				n, _ := strconv.Atoi(m[3])
				return time.Now().Add(time.Duration(n) * time.Second).UTC().Format(time.RFC3339Nano)
			}
			return fmt.Sprint(s[m[4]])
		})
	case object:
		filled := object{}
		for k, v := range value {
			filled[k] = s.fill(v)
		}
		return filled
	case []any:
		filled := make([]any, len(value))
		for i, v := range value {
			filled[i] = s.fill(v)
		}
		return filled
	}
	return value
}

// plain is a value as its JSON reads.
func plain(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	backendtest.Must(t, err)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var read any
	backendtest.Must(t, decoder.Decode(&read))
	return read
}

// unlike says where got is not what is wanted: null is anything empty, "*" anything
// else, an object has at least the members wanted.
func unlike(path string, want, got any) string {
	empty := got == nil || got == "" || got == json.Number("0") || got == false
	switch got := got.(type) {
	case object:
		empty = len(got) == 0
	case []any:
		empty = len(got) == 0
	}
	different := fmt.Sprintf("%s is %v, want %v", path, got, want)
	switch want := want.(type) {
	case nil:
		if !empty {
			return different
		}
	case object:
		members, ok := got.(object)
		if !ok {
			return different
		}
		for name, value := range want {
			if problem := unlike(path+"."+name, value, members[name]); problem != "" {
				return problem
			}
		}
	case []any:
		entries, _ := got.([]any)
		if len(entries) != len(want) {
			return different
		}
		for i, value := range want {
			if problem := unlike(fmt.Sprintf("%s[%d]", path, i), value, entries[i]); problem != "" {
				return problem
			}
		}
	default:
		if want == "*" && empty || want != "*" && want != got {
			return different
		}
	}
	return ""
}
