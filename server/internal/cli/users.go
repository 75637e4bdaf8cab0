package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
	"google.golang.org/protobuf/proto"
)

type users struct {
	List        usersList        `cmd:"" help:"List users and service accounts."`
	Get         usersGet         `cmd:"" help:"Show a user."`
	Create      usersCreate      `cmd:"" help:"Create a person or a service account."`
	Edit        usersEdit        `cmd:"" help:"Change a user: by flags, or in an editor when none is given."`
	Delete      usersDelete      `cmd:"" help:"Remove a user, with their sessions, API keys and roles."`
	Permissions usersPermissions `cmd:"" help:"Show what a user's roles allow and deny, and through which role."`

	ResetPassword     usersResetPassword     `cmd:"" name:"reset-password" help:"Give a user a one-time password, and end their sessions and API keys."`
	ResetSecondFactor usersResetSecondFactor `cmd:"" name:"reset-second-factor" help:"Turn off the second factor of a user who has lost it."`
}

type usersList struct {
	limited

	Prefix   string `help:"Only users whose names begin so." placeholder:"TEXT"`
	Disabled *bool  `help:"Only users who are disabled, or with --no-disabled those who are not." negatable:""`
}

func (u usersList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := paging.All(u.Limit, func(size int32, token string) (*tollgatev1.ListUsersResponse, error) {
		return server.auth.ListUsers(ctx, &tollgatev1.ListUsersRequest{PageSize: size, PageToken: token, UsernamePrefix: u.Prefix, Disabled: u.Disabled})
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"USERNAME", "KIND", "STATE", "SECOND FACTOR", "ROLES", "CREATED", "ID"}
		for _, u := range res.GetUsers() {
			t.row(u.GetUsername(), name(u.GetKind(), "USER_KIND_"), userState(u), yes(u.GetSecondFactor()), list(u.GetRoles()), when(u.GetCreatedAt()), u.GetId())
		}
	})
}

func userState(u *tollgatev1.User) string {
	switch {
	case u.GetDisabled():
		return "disabled"
	case u.GetPasswordChangeRequired():
		return "must change password"
	}
	return "enabled"
}

type oneUser struct {
	User string `arg:"" help:"The user's name or id."`
}

type usersGet struct{ oneUser }

func (u usersGet) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, u.User)
	if err != nil {
		return err
	}
	res, err := server.auth.GetUser(ctx, &tollgatev1.GetUserRequest{Id: user.GetId()})
	if err != nil {
		return err
	}
	return e.showUser(res, res.GetUser())
}

// userOf is the server, and one of its users.
func (e *env) userOf(ctx context.Context, nameOrID string) (*api, *tollgatev1.User, error) {
	server, err := e.connect()
	if err != nil {
		return nil, nil, err
	}
	user, err := server.user(ctx, nameOrID)
	return server, user, err
}

func (e *env) showUser(answer proto.Message, u *tollgatev1.User) error {
	return e.show(answer, func(t *table) {
		t.row("username", u.GetUsername())
		t.row("id", u.GetId())
		t.row("display name", u.GetDisplayName())
		t.row("kind", name(u.GetKind(), "USER_KIND_"))
		t.row("state", userState(u))
		t.row("second factor", yes(u.GetSecondFactor()))
		t.row("roles", list(u.GetRoles()))
		t.row("audience", u.GetAudience())
		t.row("attributes", attributes(u.GetAttributes()))
		t.row("created", when(u.GetCreatedAt()))
		t.row("changed", when(u.GetUpdatedAt()))
	})
}

type usersCreate struct {
	Username    string   `arg:"" help:"The name to sign in with."`
	Service     bool     `help:"A service account, which has no password and uses API keys."`
	DisplayName string   `help:"What to show people." placeholder:"TEXT"`
	Audience    string   `help:"For a service account: the audience of the access tokens that it accepts." placeholder:"NAME"`
	Role        []string `help:"A role to assign. Repeat the flag for more." placeholder:"NAME"`
	Generate    bool     `help:"Generate a one-time password, which must be changed at the first sign-in, instead of asking for a password. It is all that standard output has."`
	NoPassword  bool     `help:"A person who cannot sign in yet."`
}

func (u usersCreate) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	req := &tollgatev1.CreateUserRequest{
		Username: u.Username, DisplayName: u.DisplayName, Audience: u.Audience, Roles: u.Role, Kind: tollgatev1.UserKind_USER_KIND_PERSON,
	}
	switch {
	case u.Service:
		req.Kind = tollgatev1.UserKind_USER_KIND_SERVICE
	case u.Generate:
		req.Password, req.PasswordChangeRequired = rand.Text(), true
	case !u.NoPassword:
		if req.Password, err = e.ask(ctx, "Password for "+u.Username+": "); err != nil {
			return err
		}
	}
	res, err := server.auth.CreateUser(ctx, req)
	if err != nil {
		return err
	}
	e.say("created user %s (%s)", res.GetUser().GetUsername(), res.GetUser().GetId())
	if req.GetPasswordChangeRequired() {
		_, err = fmt.Fprintln(e.out, req.GetPassword())
		return err
	}
	return e.asked(res)
}

type usersEdit struct {
	oneUser

	Username    *string `help:"A new name to sign in with." placeholder:"NAME"`
	DisplayName *string `help:"What to show people." placeholder:"TEXT"`
	Audience    *string `help:"For a service account: the audience of the access tokens that it accepts." placeholder:"NAME"`
	Disabled    *bool   `help:"Disable the user, which ends their sessions and stops their API keys; --no-disabled enables them." negatable:""`
	confirmed
}

func (u usersEdit) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, u.User)
	if err != nil {
		return err
	}
	res, err := server.auth.GetUser(ctx, &tollgatev1.GetUserRequest{Id: user.GetId()})
	if err != nil {
		return err
	}
	user = res.GetUser()
	req := &tollgatev1.UpdateUserRequest{Id: user.GetId(), Username: u.Username, DisplayName: u.DisplayName, Audience: u.Audience, Disabled: u.Disabled}
	if u.Username == nil && u.DisplayName == nil && u.Audience == nil && u.Disabled == nil {
		before := &tollgatev1.UpdateUserRequest{}
		if err := e.editFields(ctx, "The user "+user.GetUsername(), user, before, req, "id"); err != nil {
			return err
		}
	}
	if req.GetDisabled() && !user.GetDisabled() {
		what, err := server.belongings(ctx, user.GetId())
		if err != nil {
			return err
		}
		if err := u.confirm(ctx, e, "disable %s, which ends or stops %s", user.GetUsername(), what); err != nil {
			return err
		}
	}
	done, err := server.auth.UpdateUser(ctx, req)
	if err != nil {
		return err
	}
	e.say("changed user %s", done.GetUser().GetUsername())
	return e.asked(done)
}

// belongings says in numbers what a user has that ends with them.
func (a *api) belongings(ctx context.Context, id string) (string, error) {
	sessions, err := a.sessions(ctx, id)
	if err != nil {
		return "", err
	}
	keys, err := a.keys(ctx, id)
	if err != nil {
		return "", err
	}
	live := 0
	for _, k := range keys.GetApiKeys() {
		if k.GetRevokedAt() == nil {
			live++
		}
	}
	return count(len(sessions.GetSessions()), "session") + ", " + count(live, "API key"), nil
}

type usersDelete struct {
	oneUser
	confirmed
}

func (u usersDelete) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, u.User)
	if err != nil {
		return err
	}
	res, err := server.auth.GetUser(ctx, &tollgatev1.GetUserRequest{Id: user.GetId()})
	if err != nil {
		return err
	}
	what, err := server.belongings(ctx, user.GetId())
	if err != nil {
		return err
	}
	name := res.GetUser().GetUsername()
	if err := u.confirm(ctx, e, "remove the user %s, with %s and %s", name, what, count(len(res.GetUser().GetRoles()), "role")); err != nil {
		return err
	}
	done, err := server.auth.DeleteUser(ctx, &tollgatev1.DeleteUserRequest{Id: user.GetId()})
	if err != nil {
		return err
	}
	e.say("removed user %s", name)
	return e.asked(done)
}

type usersPermissions struct {
	oneUser
	limited
}

func (u usersPermissions) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, u.User)
	if err != nil {
		return err
	}
	res, err := paging.All(u.Limit, func(size int32, token string) (*tollgatev1.ListUserPermissionsResponse, error) {
		return server.roles.ListUserPermissions(ctx, &tollgatev1.ListUserPermissionsRequest{UserId: user.GetId(), PageSize: size, PageToken: token})
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"EFFECT", "PERMISSION", "CONDITION", "ROLE", "FROM", "UNTIL"}
		for _, p := range res.GetPermissions() {
			t.row(effect(p.GetGrant()), p.GetGrant().GetPermission(), p.GetGrant().GetCondition(), p.GetRole(), p.GetFrom(), when(p.GetExpiresAt()))
		}
	})
}

type usersResetPassword struct {
	oneUser

	KeepAPIKeys bool `name:"keep-api-keys" help:"Keep the user's API keys."`
	confirmed
}

// Run prints the one-time password, alone, on standard output.
func (u usersResetPassword) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, u.User)
	if err != nil {
		return err
	}
	what, err := server.belongings(ctx, user.GetId())
	if err != nil {
		return err
	}
	if u.KeepAPIKeys {
		what += ", which are kept"
	}
	if err := u.confirm(ctx, e, "replace the password of %s with a one-time password, and end %s", u.User, what); err != nil {
		return err
	}
	res, err := server.auth.SetPassword(ctx, &tollgatev1.SetPasswordRequest{Id: user.GetId(), RevokeApiKeys: new(!u.KeepAPIKeys)})
	if err != nil {
		return err
	}
	if res.GetOneTimePassword() == "" {
		return errors.New("the server made no one-time password")
	}
	e.say("reset the password of %s; API keys revoked: %d. The one-time password:", u.User, res.GetRevokedApiKeys())
	_, err = fmt.Fprintln(e.out, res.GetOneTimePassword())
	return err
}

type usersResetSecondFactor struct {
	oneUser
	confirmed
}

func (u usersResetSecondFactor) Run(ctx context.Context, e *env) error {
	server, user, err := e.userOf(ctx, u.User)
	if err != nil {
		return err
	}
	if err := u.confirm(ctx, e, "turn off the second factor of %s, so that the password alone is enough to sign in", u.User); err != nil {
		return err
	}
	res, err := server.auth.RemoveSecondFactor(ctx, &tollgatev1.RemoveSecondFactorRequest{Id: user.GetId()})
	if err != nil {
		return err
	}
	e.say("the second factor of %s is off", u.User)
	return e.asked(res)
}
