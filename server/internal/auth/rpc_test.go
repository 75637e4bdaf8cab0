package auth

import (
	"testing"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/backendtest"
	"github.com/tollgatehq/tollgate/server/internal/caller"
	"github.com/tollgatehq/tollgate/server/internal/fault"
	"github.com/tollgatehq/tollgate/server/internal/fault/faulttest"
	"github.com/tollgatehq/tollgate/server/internal/roles"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// TestReasonProto: every reason of a decision has a name of its own in the API.
func TestReasonProto(t *testing.T) {
	t.Parallel()
	seen := map[tollgatev1.Reason]bool{}
	for _, r := range []caller.Reason{
		caller.ReasonOK, caller.ReasonCredentialMissing, caller.ReasonCredentialInvalid, caller.ReasonCredentialExpired,
		caller.ReasonCredentialRevoked, caller.ReasonUserDisabled, caller.ReasonUserUnknown, caller.ReasonLimited,
		caller.ReasonPasswordChangeRequired, caller.ReasonPermissionMissing, caller.ReasonScopeMissing,
		caller.ReasonWrongAudience, caller.ReasonSecondFactorRequired, caller.ReasonSignInRequired,
	} {
		p := ReasonProto(r)
		if p == tollgatev1.Reason_REASON_UNSPECIFIED || seen[p] {
			t.Errorf("%s is %s", r, p)
		}
		seen[p] = true
	}
	if ReasonProto("something") != tollgatev1.Reason_REASON_UNSPECIFIED {
		t.Error("an unknown reason has a name")
	}
}

// TestRPCs goes through the RPCs as a client would.
func TestRPCs(t *testing.T) {
	t.Parallel()
	d := newFixture(t, backendtest.SQLite(t))
	h := NewHandler(d.Service)
	d.user("root", roles.Administrator)
	login, err := h.Login(d.visitor(), &tollgatev1.LoginRequest{Username: "Root", Password: goodPassword})
	backendtest.Must(t, err)
	if login.TokenType != "Bearer" || login.ExpiresIn != 900 || login.SessionId == "" {
		t.Errorf("login %+v", login)
	}
	ctx := d.as(Credential{AccessToken: login.AccessToken})

	made, err := h.CreateUser(ctx, &tollgatev1.CreateUserRequest{Username: "robot", Kind: tollgatev1.UserKind_USER_KIND_SERVICE})
	if err != nil || made.User.Kind != tollgatev1.UserKind_USER_KIND_SERVICE || made.Revision == 0 {
		t.Fatal(made, err)
	}
	key, err := h.CreateAPIKey(ctx, &tollgatev1.CreateAPIKeyRequest{UserId: made.User.Id, Name: "robot's"})
	if err != nil || key.Secret == "" || key.ApiKey.ExpiresAt != nil || key.ApiKey.RevokedAt != nil {
		t.Fatal(key, err)
	}
	faulttest.WantField(t, faulttest.Err(h.CreateAPIKey(ctx, &tollgatev1.CreateAPIKeyRequest{Name: "key", ExpiresAt: &timestamppb.Timestamp{Nanos: -1}})), "expiresAt")

	verify, err := h.Verify(ctx, &tollgatev1.VerifyRequest{
		Credential: &tollgatev1.VerifyRequest_ApiKey{ApiKey: key.Secret}, MinRevision: key.Revision,
	})
	if err != nil || !verify.Active || verify.Principal.GetApiKeyId() != key.ApiKey.Id || verify.Revision < key.Revision ||
		verify.Principal.GetUserId() != made.User.Id || verify.Principal.ExpiresAt != nil {
		t.Errorf("verify %+v, %v", verify, err)
	}
	backendtest.Must(t, faulttest.Err(h.RevokeAPIKey(ctx, &tollgatev1.RevokeAPIKeyRequest{Id: key.ApiKey.Id})))
	verify, err = h.Verify(ctx, &tollgatev1.VerifyRequest{Credential: &tollgatev1.VerifyRequest_ApiKey{ApiKey: key.Secret}})
	if err != nil || verify.Active || verify.Reason != tollgatev1.Reason_REASON_CREDENTIAL_REVOKED || verify.Principal != nil {
		t.Errorf("verify %+v, %v", verify, err)
	}
	_, err = h.Verify(ctx, &tollgatev1.VerifyRequest{
		Credential: &tollgatev1.VerifyRequest_AccessToken{AccessToken: login.AccessToken}, MinRevision: 1 << 40,
	})
	faulttest.Want(t, err, fault.Unavailable, "REVISION_NOT_REACHED")
	keys, err := h.ListAPIKeys(ctx, &tollgatev1.ListAPIKeysRequest{UserId: made.User.Id})
	if err != nil || len(keys.ApiKeys) != 1 || keys.ApiKeys[0].RevokedAt == nil {
		t.Errorf("keys %+v, %v", keys, err)
	}

	who, err := h.WhoAmI(ctx, &tollgatev1.WhoAmIRequest{})
	if err != nil || who.Principal.Username != "root" || len(who.Permissions) != 1 || who.Permissions[0] != "*" ||
		who.Principal.SessionId != login.SessionId || who.Principal.ExpiresAt == nil {
		t.Errorf("whoami %+v, %v", who, err)
	}
	refreshed, err := h.Refresh(d.visitor(), &tollgatev1.RefreshRequest{RefreshToken: login.RefreshToken})
	if err != nil || refreshed.SessionId != login.SessionId || refreshed.ExpiresIn != 900 {
		t.Fatal(refreshed, err)
	}
	d.login("root")
	sessions, err := h.ListSessions(ctx, &tollgatev1.ListSessionsRequest{Id: login.UserId})
	if err != nil || len(sessions.Sessions) != 2 {
		t.Fatal(sessions, err)
	}
	for _, s := range sessions.Sessions {
		if s.Current != (s.Id == login.SessionId) {
			t.Errorf("session %s: current is %v", s.Id, s.Current)
		}
	}

	person, err := h.CreateUser(ctx, &tollgatev1.CreateUserRequest{Username: "ann", Password: goodPassword})
	if err != nil || person.User.Kind != tollgatev1.UserKind_USER_KIND_PERSON {
		t.Fatal(person, err)
	}
	id := person.User.Id
	d.login("ann")
	ended, err := h.RevokeSessions(ctx, &tollgatev1.RevokeSessionsRequest{Id: id})
	if err != nil || ended.RevokedSessions != 1 {
		t.Errorf("ended %+v, %v", ended, err)
	}
	g := d.login("ann")
	backendtest.Must(t, faulttest.Err(h.RevokeSession(ctx, &tollgatev1.RevokeSessionRequest{Id: id, SessionId: g.SessionID})))
	d.wantReason(g.AccessToken, caller.ReasonCredentialRevoked)
	reset, err := h.SetPassword(ctx, &tollgatev1.SetPasswordRequest{Id: id})
	if err != nil || reset.OneTimePassword == "" {
		t.Errorf("reset %+v, %v", reset, err)
	}
	changed, err := h.UpdateUser(ctx, &tollgatev1.UpdateUserRequest{Id: id, Disabled: new(true)})
	if err != nil || !changed.User.Disabled || !changed.User.PasswordChangeRequired {
		t.Errorf("changed %+v, %v", changed, err)
	}
	got, err := h.GetUser(ctx, &tollgatev1.GetUserRequest{Id: login.UserId})
	if err != nil || len(got.User.Roles) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
	list, err := h.ListUsers(ctx, &tollgatev1.ListUsersRequest{PageSize: 2})
	if err != nil || len(list.Users) != 2 || list.NextPageToken == "" {
		t.Errorf("list %+v, %v", list, err)
	}
	backendtest.Must(t, faulttest.Err(h.DeleteUser(ctx, &tollgatev1.DeleteUserRequest{Id: id})))
	out, err := h.Logout(ctx, &tollgatev1.LogoutRequest{Everywhere: true})
	if err != nil || out.RevokedSessions != 2 || out.Revision == 0 {
		t.Errorf("logout %+v, %v", out, err)
	}
}
