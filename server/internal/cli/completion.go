package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completion struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

func (completion) Help() string {
	return `In ~/.bashrc, in ~/.zshrc after compinit, or in ~/.config/fish/config.fish:

    source <(tollgate completion bash)
    source <(tollgate completion zsh)
    tollgate completion fish | source

For all users of the machine, as root; bash reads its file with the package bash-completion:

    tollgate completion bash > /etc/bash_completion.d/tollgate
    tollgate completion zsh  > "${fpath[1]}/_tollgate"
    tollgate completion fish > /etc/fish/completions/tollgate.fish`
}

// scripts ask the program itself what can come next, so that they never lag behind it,
// and offer files where it knows nothing.
var scripts = map[string]string{
	"bash": `_tollgate() {
	local IFS=$'\n'
	COMPREPLY=($("${COMP_WORDS[0]/#\~/$HOME}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _tollgate tollgate
`,
	"zsh": `#compdef tollgate
_tollgate() {
	local -a found
	found=(${(f)"$("${words[1]/#\~/$HOME}" __complete -- "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)"})
	if (( $#found )); then compadd -a found; else compset -P '--*='; _files; fi
}
if [ "$funcstack[1]" = "_tollgate" ]; then _tollgate "$@"; else compdef _tollgate tollgate; fi
`,
	"fish": `function __tollgate_complete
	set -l words (commandline -opc)
	set -l program (string replace -r '^~' $HOME $words[1])
	$program __complete -- $words[2..] (commandline -ct) 2>/dev/null
end
complete -c tollgate -f -a '(__tollgate_complete)'
complete -c tollgate -F -n 'not __tollgate_complete | string length -q'
`,
}

func (c completion) Run(e *env) error {
	_, err := fmt.Fprint(e.out, scripts[c.Shell])
	return err
}

type completeWords struct {
	Words []string `arg:"" optional:"" help:"The words after the program's name, the last one to be completed."`
}

func (c completeWords) Run(e *env, whole *kong.Application) error {
	from := whole.Node
	if slices.Contains(Names(), First(c.Words, Model().Flags...)) {
		from = Model().Node
	}
	for _, word := range complete(from, c.Words) {
		fmt.Fprintln(e.out, word)
	}
	return nil
}

// complete is what the last of the words can be.
func complete(node *kong.Node, words []string) []string {
	last := ""
	if n := len(words); n > 0 {
		words, last = words[:n-1], words[n-1]
	}
	if last == "=" {
		last = "" // bash has the = of --output=json as a word of its own
	}
	var asked *kong.Flag // whose value comes next
	for _, word := range words {
		switch {
		case asked != nil && word == "=":
		case asked != nil:
			asked = nil
		case strings.HasPrefix(word, "-"):
			if asked = flagOf(node, word); asked != nil && (asked.IsBool() || asked.IsCounter()) {
				asked = nil
			}
		default:
			if i := slices.IndexFunc(node.Children, func(c *kong.Node) bool { return c.Name == word }); i >= 0 {
				node = node.Children[i]
			}
		}
	}
	var found []string
	name, _, valued := strings.Cut(last, "=")
	switch {
	case asked == nil && valued && strings.HasPrefix(name, "--"):
		if f := flagOf(node, name); f != nil {
			for _, value := range f.EnumSlice() {
				found = append(found, name+"="+value)
			}
		}
	case asked != nil:
		found = asked.EnumSlice()
	case strings.HasPrefix(last, "-"):
		for _, f := range flagsAt(node) {
			found = append(found, "--"+f.Name)
		}
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, child.Name)
			}
		}
		for _, arg := range node.Positional {
			found = append(found, arg.EnumSlice()...)
		}
	}
	slices.Sort(found)
	return slices.DeleteFunc(slices.Compact(found), func(word string) bool {
		return word == "" || !strings.HasPrefix(word, last)
	})
}

// flagsAt are the flags that can stand at a command; before any command, the client's
// can, too.
func flagsAt(node *kong.Node) []*kong.Flag {
	found := slices.Concat(node.AllFlags(true)...)
	if node.Parent == nil {
		found = append(found, Model().Flags...)
	}
	return found
}

func flagOf(node *kong.Node, word string) *kong.Flag {
	for _, f := range flagsAt(node) {
		if word == "--"+f.Name || f.Short != 0 && word == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}
