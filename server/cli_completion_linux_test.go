package main_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/apitest"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// TestCLICompletion presses Tab in real shells that have read their script.
func TestCLICompletion(t *testing.T) {
	t.Parallel()
	for name, complete := range map[string]func(*testing.T, *shell) func(string) string{
		"bash": func(t *testing.T, sh *shell) func(string) string {
			t.Helper()
			sh.file(t, "rc", `PS1='READY> '
source <(tollgate completion bash)
typed() { printf '%s\n' "$READLINE_LINE" >>~/typed; READLINE_LINE=; READLINE_POINT=0; }
bind -x '"\C-t": typed'
`)
			return sh.pressesTab(t, "BASH", "bash", "--noprofile", "--rcfile", "rc", "-i")
		},
		"zsh": func(t *testing.T, sh *shell) func(string) string {
			t.Helper()
			sh.file(t, ".zshrc", zshrc("autoload -Uz compinit; compinit -u -D; source <(tollgate completion zsh)"))
			return sh.pressesTab(t, "ZSH", "zsh", "-d", "-i")
		},
		"zsh's folder": func(t *testing.T, sh *shell) func(string) string {
			t.Helper()
			sh.file(t, ".zfunc/_tollgate", sh.do(t, "completion", "zsh"))
			sh.file(t, ".zshrc", zshrc("fpath+=(~/.zfunc); autoload -Uz compinit; compinit -u -D"))
			return sh.pressesTab(t, "ZSH", "zsh", "-d", "-i")
		},
		"fish's folder": func(t *testing.T, sh *shell) func(string) string {
			t.Helper()
			sh.file(t, "config/fish/completions/tollgate.fish", sh.do(t, "completion", "fish"))
			return sh.asksFish(t, "complete -C $argv")
		},
		"fish": func(t *testing.T, sh *shell) func(string) string {
			t.Helper()
			return sh.asksFish(t, "tollgate completion fish | source; complete -C $argv")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := tollgateBinary()
			backendtest.Must(t, err)
			sh := newShell(t, "http://127.0.0.1:1", "LC_ALL=C.UTF-8", "TERM=dumb")
			sh.env = append(sh.env, "PATH="+filepath.Join(sh.home, "bin")+":"+os.Getenv("PATH"))
			backendtest.Must(t, os.Mkdir(filepath.Join(sh.home, "bin"), 0o700))
			backendtest.Must(t, os.Symlink(path, filepath.Join(sh.home, "bin", "tollgate")))
			sh.file(t, "users.yaml", "")
			sh.file(t, "readable.yaml", "")
			completed := complete(t, sh)
			for line, want := range map[string]string{
				"tollgate whoa":                         "tollgate whoami ",
				"tollgate us":                           "tollgate users ", // rather than the file
				"~/bin/tollgate us":                     "~/bin/tollgate users ",
				"TOLLGATE_URL=x tollgate us":            "TOLLGATE_URL=x tollgate users ",
				"tollgate recover user reset-p":         "tollgate recover user reset-password ",
				"tollgate signing-keys rew":             "tollgate signing-keys rewrap ",
				"tollgate -o y":                         "tollgate -o yaml ",
				"tollgate --output=y":                   "tollgate --output=yaml ",
				"tollgate --output=yaml who":            "tollgate --output=yaml whoami ",
				`tollgate --profile "a b" comp`:         `tollgate --profile "a b" completion `,
				"tollgate --profile $(touch ran)x comp": "tollgate --profile $(touch ran)x completion ",
				"tollgate completion z":                 "tollgate completion zsh ",
				"tollgate can --con":                    "tollgate can --context ",
				"tollgate serve --lis":                  "tollgate serve --listen ",
				"tollgate login --lis":                  "tollgate login --lis",
				"tollgate __comp":                       "tollgate __comp",
				"tollgate plan -f rea":                  "tollgate plan -f readable.yaml ",
				"tollgate audit export --out=rea":       "tollgate audit export --out=readable.yaml ",
			} {
				if got := completed(line); got != want {
					t.Errorf("%q is completed to %q, want %q", line, got, want)
				}
			}
			if _, err := os.Stat(filepath.Join(sh.home, "ran")); err == nil {
				t.Error("Tab ran what was typed")
			}
		})
	}
	newShell(t, "http://127.0.0.1:1").fails(t, 1, "bash", "completion", "tcsh")
}

// zshrc is a .zshrc that has Ctrl-T write the line to ~/typed and empty it.
func zshrc(setup string) string {
	return "PS1='READY> '\n" + setup + `
typed() { print -r -- "$BUFFER" >>~/typed; BUFFER=; }
zle -N typed; bindkey '^T' typed
`
}

// pressesTab starts a shell at a terminal. It returns what Tab makes of a line.
func (s *shell) pressesTab(t *testing.T, variable, name string, args ...string) func(line string) string {
	t.Helper()
	file, err := program("TOLLGATE_TEST_"+variable, name)
	backendtest.Must(t, err)
	user, terminal := openTerminal(t)
	cmd := exec.Command(file, args...)
	cmd.Dir, cmd.Env = s.home, s.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	backendtest.Must(t, cmd.Start())
	screen := newOutput()
	go io.Copy(screen, user) // until the terminal is closed
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	apitest.Eventually(t, "the prompt of "+name, func() bool { return strings.Contains(screen.String(), "READY> ") })
	n := 0
	return func(line string) string {
		_, err := user.WriteString(line + "\t\x14")
		backendtest.Must(t, err)
		n++
		var lines []string
		apitest.Eventually(t, name+" has completed "+line, func() bool {
			typed, _ := os.ReadFile(filepath.Join(s.home, "typed"))
			lines = strings.Split(string(typed), "\n")
			return len(lines) > n
		})
		return lines[n-1]
	}
}

// asksFish returns what a script for fish makes of a line, which it gets as $argv. The
// script prints all that the line's last word can be.
func (s *shell) asksFish(t *testing.T, script string) func(line string) string {
	t.Helper()
	file, err := program("TOLLGATE_TEST_FISH", "fish")
	backendtest.Must(t, err)
	return func(line string) string {
		cmd := exec.CommandContext(t.Context(), file, "-c", script, line)
		cmd.Dir, cmd.Env = s.home, s.env
		out, err := cmd.CombinedOutput()
		backendtest.Must(t, err)
		if len(out) == 0 {
			return line
		}
		return line[:strings.LastIndex(line, " ")+1] + strings.ReplaceAll(string(out), "\n", " ")
	}
}
