package cli

import (
	"context"
	"fmt"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type keys struct {
	List   keysList   `cmd:"" help:"List API keys, revoked ones too. (Keys that sign tokens: tollgate signing-keys.)"`
	Get    keysGet    `cmd:"" help:"Show an API key."`
	Create keysCreate `cmd:"" help:"Create an API key. The key itself is all that standard output has; it is shown only now."`
	Rotate keysRotate `cmd:"" help:"Replace an API key by another, with an overlap in which both work. The new key is all that standard output has."`
	Revoke keysRevoke `cmd:"" aliases:"delete" help:"Stop an API key at once."`
}

func (a *api) keys(ctx context.Context, userID string) (*tollgatev1.ListAPIKeysResponse, error) {
	return paging.All(0, func(size int32, token string) (*tollgatev1.ListAPIKeysResponse, error) {
		return a.auth.ListAPIKeys(ctx, &tollgatev1.ListAPIKeysRequest{UserId: userID, PageSize: size, PageToken: token})
	})
}

type keysList struct {
	limited

	User string `help:"Only those of this user: a name or an id." placeholder:"USER"`
}

func (k keysList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	req := &tollgatev1.ListAPIKeysRequest{}
	if k.User != "" {
		user, err := server.user(ctx, k.User)
		if err != nil {
			return err
		}
		req.UserId = user.GetId()
	}
	res, err := paging.All(k.Limit, func(size int32, token string) (*tollgatev1.ListAPIKeysResponse, error) {
		req.PageSize, req.PageToken = size, token
		return server.auth.ListAPIKeys(ctx, req)
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"ID", "NAME", "SCOPES", "STATE", "LAST USED", "CREATED", "USER ID"}
		for _, k := range res.GetApiKeys() {
			t.row(k.GetId(), k.GetName(), scopes(k), keyState(e.now(), k), when(k.GetLastUsedAt()), when(k.GetCreatedAt()), k.GetUserId())
		}
	})
}

func scopes(k *tollgatev1.APIKey) string {
	if len(k.GetScopes()) == 0 {
		return "all"
	}
	return list(k.GetScopes())
}

func keyState(now time.Time, k *tollgatev1.APIKey) string {
	switch {
	case k.GetRevokedAt() != nil:
		return "revoked"
	case k.GetExpiresAt() == nil:
		return "live"
	case k.GetExpiresAt().AsTime().Before(now):
		return "expired"
	}
	return "live until " + when(k.GetExpiresAt())
}

// key is a key by its id, which the API has in lists only.
func (a *api) key(ctx context.Context, id string) (*tollgatev1.APIKey, error) {
	for token := ""; ; {
		page, err := a.auth.ListAPIKeys(ctx, &tollgatev1.ListAPIKeysRequest{PageSize: paging.Size, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, k := range page.GetApiKeys() {
			if k.GetId() == id {
				return k, nil
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			return nil, fmt.Errorf("there is no API key %q at %s; tollgate keys list shows them", id, a.url)
		}
	}
}

type oneKey struct {
	ID string `arg:"" help:"The key's id, as listed."`
}

type keysGet struct{ oneKey }

func (k keysGet) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	key, err := server.key(ctx, k.ID)
	if err != nil {
		return err
	}
	return e.show(key, func(t *table) {
		t.row("id", key.GetId())
		t.row("name", key.GetName())
		t.row("user id", key.GetUserId())
		t.row("scopes", scopes(key))
		t.row("state", keyState(e.now(), key))
		t.row("last used", when(key.GetLastUsedAt()))
		t.row("created", when(key.GetCreatedAt()))
		t.row("created by", key.GetCreatedBy())
	})
}

type keysCreate struct {
	Name  string   `arg:"" help:"What it is for."`
	User  string   `help:"Whom it acts as: a name or an id. Default: you." placeholder:"USER"`
	Scope []string `help:"Narrow it to this permission or pattern. Repeat the flag for more. Default: all that the user may." placeholder:"PERMISSION"`
	For   string   `help:"How long it works: 12h, 90d. Default: until it is revoked." placeholder:"TIME"`
}

func (k keysCreate) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	req := &tollgatev1.CreateAPIKeyRequest{Name: k.Name, Scopes: k.Scope}
	if req.ExpiresAt, err = until(e.now(), k.For); err != nil {
		return err
	}
	if k.User != "" {
		user, err := server.user(ctx, k.User)
		if err != nil {
			return err
		}
		req.UserId = user.GetId()
	}
	res, err := server.auth.CreateAPIKey(ctx, req)
	if err != nil {
		return err
	}
	e.say("created API key %s; it is shown only now:", res.GetApiKey().GetId())
	return e.secret(res.GetSecret())
}

// secret prints a secret, alone, so that a script or a pipe has nothing else.
func (e *env) secret(text string) error {
	_, err := fmt.Fprintln(e.out, text)
	return err
}

// until is the end of a time that begins now; unset for none.
func until(now time.Time, text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	d, err := protoyaml.ParseDuration(text)
	if err != nil || d <= 0 {
		return nil, fmt.Errorf("--for %q must be a time such as 30m, 12h or 90d", text)
	}
	return timestamppb.New(now.Add(d)), nil
}

type keysRotate struct {
	oneKey

	Overlap time.Duration `help:"How long the old key still works: up to 168h. 0s ends it at once." default:"1h"`
}

func (k keysRotate) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.auth.RotateAPIKey(ctx, &tollgatev1.RotateAPIKeyRequest{Id: k.ID, Overlap: durationpb.New(k.Overlap)})
	if err != nil {
		return err
	}
	e.say("created API key %s; the old one, %s, is %s. The new one is shown only now:",
		res.GetApiKey().GetId(), k.ID, keyState(e.now(), res.GetReplaced()))
	return e.secret(res.GetSecret())
}

type keysRevoke struct {
	oneKey
	confirmed
}

func (k keysRevoke) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	if !k.Yes {
		key, err := server.key(ctx, k.ID)
		if err != nil {
			return err
		}
		last := "was never used"
		if key.GetLastUsedAt() != nil {
			last = "was last used at " + when(key.GetLastUsedAt())
		}
		if err := k.confirm(ctx, e, "stop the API key %s (%s), which %s", k.ID, key.GetName(), last); err != nil {
			return err
		}
	}
	res, err := server.auth.RevokeAPIKey(ctx, &tollgatev1.RevokeAPIKeyRequest{Id: k.ID})
	if err != nil {
		return err
	}
	e.say("revoked API key %s", k.ID)
	return e.asked(res)
}
