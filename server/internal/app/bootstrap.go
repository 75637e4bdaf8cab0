package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/auth"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/roles"
)

// FirstAdmin is the name of the administrator that a new database gets.
const FirstAdmin = "admin"

// BootstrapAdmin makes the first administrator when there is none. When it made up
// the password it returns it: the only time that it is known. What is shown to
// no terminal goes to a log, which others read and which is kept, so such a
// password must be changed at the first sign-in.
func (a *App) BootstrapAdmin(ctx context.Context) (password string, err error) {
	ctx = caller.System(ctx)
	given := a.config.AdminPassword
	if some, err := a.hasAdministrator(ctx); err != nil || some {
		if some && given != "" {
			a.out.Log.InfoContext(ctx, "TOLLGATE_ADMIN_PASSWORD is ignored, because there is an administrator already; for another password: tollgate recover user reset-password NAME")
		}
		return "", err
	}
	if given == "" {
		if !a.config.embedded() && !a.out.Terminal {
			return "", errors.New("the database has no administrator: set TOLLGATE_ADMIN_PASSWORD, and the first administrator, admin, is made with it")
		}
		password = strings.ToLower(rand.Text())
		given = password
	}
	_, _, err = a.Auth.CreateUser(ctx, auth.NewUser{
		Username: FirstAdmin, Password: given, DisplayName: "First administrator", Kind: caller.Person,
		Roles: []string{roles.Administrator}, PasswordChangeRequired: password != "" && !a.out.Terminal,
	})
	switch {
	case fault.Is(err, fault.Exists):
		if some, err := a.hasAdministrator(ctx); err != nil || some {
			return "", err // another instance was faster
		}
		a.out.Log.WarnContext(ctx, "there is no administrator, and the user admin exists; make one: tollgate recover user create NAME --role administrator")
		return "", nil
	case err != nil:
		return "", fmt.Errorf("make the first administrator (TOLLGATE_ADMIN_PASSWORD): %w", err)
	}
	a.out.Log.InfoContext(ctx, "made the first administrator", "username", FirstAdmin)
	return password, nil
}

func (a *App) hasAdministrator(ctx context.Context) (bool, error) {
	some, _, err := a.roles.Members(ctx, roles.Administrator, 1, "")
	return len(some) > 0, err
}

// PrintWelcome prints where the ports answer, unless they are nil, and what to do
// next. The password is empty when there is none to show.
func (a *App) PrintWelcome(at Addresses, password string) {
	scheme := "http://"
	if a.config.TLSCert != "" {
		scheme = "https://"
	}
	base := scheme + dialAddress(at.API)
	say := func(format string, args ...any) { fmt.Fprintf(a.out.Stdout, format+"\n", args...) }
	say("")
	say("Tollgate answers on %s", base)
	if a.config.console() {
		say("Its console is %s/console/", base)
	}
	if at.GRPC != nil {
		say("Its gRPC port is %s", dialAddress(at.GRPC))
	}
	if at.Gateway != nil {
		say("Its gateway answers on %s", scheme+dialAddress(at.Gateway))
	}
	say("")
	shown := "YOUR PASSWORD"
	if password != "" {
		say("The first administrator is %q with the password below. It is shown only now.", FirstAdmin)
		say("")
		say("    %s", password)
		say("")
		if !a.out.Terminal {
			say("This is no terminal, and others may read it: it must be changed at the first sign-in, and is good for nothing else.")
			say("")
		}
		shown = password
	}
	say("Try:")
	say("    curl %s/v1/auth/login -H 'Content-Type: application/json' -d '{\"username\":\"%s\",\"password\":\"%s\"}'", base, FirstAdmin, shown)
	if password != "" && !a.out.Terminal {
		say("    curl %s/v1/users/$ID/password -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{\"currentPassword\":\"…\",\"newPassword\":\"…\"}'   # ID: the userId of the answer", base)
	}
	say("    curl %s/v1/auth/whoami -H \"Authorization: Bearer $TOKEN\"   # TOKEN: the accessToken of the answer", base)
	say("    curl %s/v1/audit/events -H \"Authorization: Bearer $TOKEN\"", base)
	say("")
}
