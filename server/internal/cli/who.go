package cli

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
)

type whoAmI struct{}

func (whoAmI) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.auth.WhoAmI(ctx, &tollgatev1.WhoAmIRequest{})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		p := res.GetPrincipal()
		t.row("server", server.url)
		t.row("user", p.GetUsername()+" ("+p.GetUserId()+")")
		t.row("kind", name(p.GetKind(), "USER_KIND_"))
		t.row("roles", list(p.GetRoles()))
		if key := p.GetApiKeyId(); key != "" {
			t.row("API key", key)
			t.row("scopes", list(p.GetScopes()))
		} else {
			t.row("session", p.GetSessionId())
			t.row("signed in", when(p.GetAuthTime())+" by "+strings.Join(p.GetAmr(), ", "))
		}
		for i, permission := range res.GetPermissions() {
			t.row(map[bool]string{true: "may", false: " "}[i == 0], permission)
		}
	})
}

type profiles struct {
	List   profilesList   `cmd:"" default:"1" help:"Show the profiles (the default)."`
	Use    profilesUse    `cmd:"" help:"Choose the profile of the next commands."`
	Remove profilesRemove `cmd:"" help:"Forget a profile without a call to its server; tollgate logout ends its session, too."`
}

type profilesList struct{}

func (profilesList) Run(e *env) error {
	names, err := e.store.names()
	if err != nil {
		return err
	}
	if e.Output != "table" {
		return errors.New("profiles are shown as a table only")
	}
	t := &table{header: []string{"CHOSEN", "PROFILE", "URL", "USER", "STATE"}}
	chosen := e.profileName()
	for _, name := range names {
		p, err := e.store.read(name)
		state := "signed in"
		switch {
		case err != nil:
			state = err.Error()
		case p.RefreshToken == "" || p.Refreshing:
			state = "signed out"
		}
		mark := " "
		if name == chosen {
			mark = "*"
		}
		t.row(mark, name, p.URL, p.Username, state)
	}
	return t.write(e.out)
}

type profilesUse struct {
	Name string `arg:"" help:"The profile's name."`
}

func (p profilesUse) Run(e *env) error {
	if _, err := e.store.read(p.Name); err != nil {
		return err
	}
	return e.store.choose(p.Name)
}

type profilesRemove struct {
	Name string `arg:"" help:"The profile's name."`
}

func (p profilesRemove) Run(ctx context.Context, e *env) error {
	if _, err := e.store.read(p.Name); errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unlock, err := e.store.lock(ctx, p.Name)
	if err != nil {
		return err
	}
	defer unlock()
	return e.store.remove(p.Name)
}
