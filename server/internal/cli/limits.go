package cli

import (
	"context"
	"fmt"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/auth/username"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
	"github.com/tollgatehq/tollgate/server/internal/cli/protoyaml"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

type limits struct {
	List   limitsList   `cmd:"" help:"List limits: what they count, for whom, and how many calls they allow. (Without a sign-in, on the database: tollgate recover limits.)"`
	Get    limitsGet    `cmd:"" help:"Show a limit."`
	Create limitsCreate `cmd:"" help:"Create a limit."`
	Edit   limitsEdit   `cmd:"" help:"Change a limit: by flags, or in an editor when none is given."`
	Delete limitsDelete `cmd:"" help:"Remove a limit."`
	Check  limitsCheck  `cmd:"" help:"Show how much of a limit a key has left. Exit status 1 when nothing is."`
	Reset  limitsReset  `cmd:"" help:"Forget what a limit has counted for one key. (For all keys, on the database: tollgate recover limits reset.)"`
}

type limitsList struct{ limited }

func (l limitsList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := paging.All(l.Limit, func(size int32, token string) (*tollgatev1.ListLimitsResponse, error) {
		return server.limits.ListLimits(ctx, &tollgatev1.ListLimitsRequest{PageSize: size, PageToken: token})
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"NAME", "COUNTS", "PERMISSION", "RATE", "BURST", "ALGORITHM", "MODE", "OUTAGE", "LEASE", "OVERRIDES", "BUILT IN"}
		for _, l := range res.GetLimits() {
			t.row(l.GetName(), subject(l), l.GetPermission(), rate(l), fmt.Sprint(l.GetBurst()), name(l.GetAlgorithm(), "ALGORITHM_"),
				name(l.GetMode(), "MODE_"), name(l.GetOutage(), "OUTAGE_"), span(l.GetLeaseTime()), fmt.Sprint(len(l.GetOverrides())), yes(l.GetBuiltin()))
		}
	})
}

func subject(l *tollgatev1.Limit) string {
	if l.GetContextKey() != "" {
		return "context." + l.GetContextKey()
	}
	return name(l.GetSubject(), "SUBJECT_")
}

// rate is 100/1m, or 100/month Europe/Berlin.
func rate(l *tollgatev1.Limit) string {
	if l.GetAlgorithm() == tollgatev1.Algorithm_ALGORITHM_CALENDAR {
		return fmt.Sprintf("%d/%s %s", l.GetRate(), name(l.GetCalendar(), "CALENDAR_"), l.GetTimeZone())
	}
	return fmt.Sprintf("%d/%s", l.GetRate(), span(l.GetPeriod()))
}

type oneLimit struct {
	Name string `arg:"" help:"The limit's name."`
}

func (o oneLimit) get(ctx context.Context, e *env) (*api, *tollgatev1.GetLimitResponse, error) {
	server, err := e.connect()
	if err != nil {
		return nil, nil, err
	}
	res, err := server.limits.GetLimit(ctx, &tollgatev1.GetLimitRequest{Name: o.Name})
	return server, res, err
}

type limitsGet struct{ oneLimit }

func (l limitsGet) Run(ctx context.Context, e *env) error {
	_, res, err := l.get(ctx, e)
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		l := res.GetLimit()
		t.row("name", l.GetName())
		t.row("description", l.GetDescription())
		t.row("counts", subject(l))
		t.row("permission", l.GetPermission())
		t.row("rate", rate(l))
		t.row("burst", fmt.Sprint(l.GetBurst()))
		t.row("algorithm", name(l.GetAlgorithm(), "ALGORITHM_"))
		t.row("mode", name(l.GetMode(), "MODE_"))
		t.row("outage", name(l.GetOutage(), "OUTAGE_"))
		t.row("lease", span(l.GetLeaseTime()))
		t.row("built in", yes(l.GetBuiltin()))
		for _, o := range l.GetOverrides() {
			t.row("override", fmt.Sprintf("%s: %d, burst %d", o.GetKey(), o.GetRate(), o.GetBurst()))
		}
		t.row("changed", when(l.GetUpdatedAt()))
	})
}

// limitFields are the fields of a limit that can be changed.
type limitFields struct {
	Description *string        `help:"What it is for." placeholder:"TEXT"`
	Permission  *string        `help:"Which calls it counts: a permission or pattern. Default: all." placeholder:"PATTERN"`
	Rate        *int64         `help:"How many calls in a period." placeholder:"N"`
	Period      *time.Duration `help:"The period: 1s, 15m, 24h." placeholder:"TIME"`
	Burst       *int64         `help:"How many at once. Default: the rate." placeholder:"N"`
	Algorithm   string         `help:"gcra (the default), fixed_window, sliding_window, backoff or calendar." enum:",gcra,fixed_window,sliding_window,backoff,calendar" default:"" placeholder:"NAME"`
	Calendar    string         `help:"With --algorithm calendar: day, week or month." enum:",day,week,month" default:"" placeholder:"NAME"`
	TimeZone    *string        `help:"With --algorithm calendar: Europe/Berlin. Default: UTC." placeholder:"NAME"`
	Mode        string         `help:"enforce (the default), or shadow: only count and report." enum:",enforce,shadow" default:"" placeholder:"NAME"`
	Outage      string         `help:"While counters cannot be reached: local (the default), open or closed." enum:",local,open,closed" default:"" placeholder:"NAME"`
	Lease       *bool          `help:"Count calls ahead of time." negatable:""`
	LeaseTime   *time.Duration `help:"With --lease: 10ms to 1s." placeholder:"TIME"`
}

// set sets the fields that were given in a request, and says whether any was.
func (f limitFields) set(m protoreflect.Message) bool {
	given := map[string]any{}
	if f.Description != nil {
		given["description"] = *f.Description
	}
	if f.Permission != nil {
		given["permission"] = *f.Permission
	}
	if f.Rate != nil {
		given["rate"] = *f.Rate
	}
	if f.Burst != nil {
		given["burst"] = *f.Burst
	}
	if f.TimeZone != nil {
		given["time_zone"] = *f.TimeZone
	}
	if f.Lease != nil {
		given["lease"] = *f.Lease
	}
	for field, value := range given {
		m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(field)), protoreflect.ValueOf(value))
	}
	n := len(given)
	for field, d := range map[string]*time.Duration{"period": f.Period, "lease_time": f.LeaseTime} {
		if d != nil {
			m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(field)), protoreflect.ValueOfMessage(durationpb.New(*d).ProtoReflect()))
			n++
		}
	}
	for field, text := range map[string]string{"algorithm": f.Algorithm, "calendar": f.Calendar, "mode": f.Mode, "outage": f.Outage} {
		if d := m.Descriptor().Fields().ByName(protoreflect.Name(field)); text != "" {
			number, _ := protoyaml.EnumNumber(d.Enum(), text)
			m.Set(d, protoreflect.ValueOfEnum(number))
			n++
		}
	}
	return n > 0
}

type limitsCreate struct {
	oneLimit

	Subject    string `required:"" help:"Whom it counts: user, ip, api_key, global, custom or user_ip." enum:"user,ip,api_key,global,custom,user_ip" placeholder:"NAME"`
	ContextKey string `help:"With --subject custom: the entry of Authorize's context." placeholder:"KEY"`
	limitFields
}

func (l limitsCreate) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	number, _ := protoyaml.EnumNumber(tollgatev1.Subject(0).Descriptor(), l.Subject)
	req := &tollgatev1.CreateLimitRequest{Name: l.Name, Subject: tollgatev1.Subject(number), ContextKey: l.ContextKey}
	l.set(req.ProtoReflect())
	res, err := server.limits.CreateLimit(ctx, req)
	if err != nil {
		return err
	}
	e.say("created limit %s: %s", l.Name, rate(res.GetLimit()))
	return e.asked(res)
}

type limitsEdit struct {
	oneLimit
	limitFields
}

func (l limitsEdit) Run(ctx context.Context, e *env) error {
	server, got, err := l.get(ctx, e)
	if err != nil {
		return err
	}
	update := &tollgatev1.UpdateLimitRequest{}
	if !l.set(update.ProtoReflect()) {
		if err := e.editFields(ctx, "The limit "+l.Name, got.GetLimit(), &tollgatev1.CreateLimitRequest{}, update, "name"); err != nil {
			return err
		}
	}
	update.Name = l.Name
	res, err := server.limits.UpdateLimit(ctx, update)
	if err != nil {
		return err
	}
	e.say("changed limit %s: %s, %s", l.Name, rate(res.GetLimit()), name(res.GetLimit().GetMode(), "MODE_"))
	return e.asked(res)
}

type limitsDelete struct {
	oneLimit
	confirmed
}

func (l limitsDelete) Run(ctx context.Context, e *env) error {
	server, got, err := l.get(ctx, e)
	if err != nil {
		return err
	}
	limit := got.GetLimit()
	if err := l.confirm(ctx, e, "remove the limit %s: %s of %s for each %s, with %s", l.Name, rate(limit), limit.GetPermission(), subject(limit),
		count(len(limit.GetOverrides()), "override")); err != nil {
		return err
	}
	res, err := server.limits.DeleteLimit(ctx, &tollgatev1.DeleteLimitRequest{Name: l.Name})
	if err != nil {
		return err
	}
	e.say("removed limit %s", l.Name)
	return e.asked(res)
}

type limitsCheck struct {
	oneLimit

	Key  string `arg:"" optional:"" help:"Whom to look at: a user's name or id, an address, an API key's id, a value of the context; nothing for a global limit."`
	Cost int64  `help:"Count so many calls rather than only look." placeholder:"N"`
}

func (l limitsCheck) Run(ctx context.Context, e *env) error {
	server, got, err := l.get(ctx, e)
	if err != nil {
		return err
	}
	key, err := server.counted(ctx, got.GetLimit(), l.Key)
	if err != nil {
		return err
	}
	res, err := server.limits.CheckLimit(ctx, &tollgatev1.CheckLimitRequest{Limit: l.Name, Key: key, Cost: l.Cost, Peek: l.Cost == 0})
	if err != nil {
		return err
	}
	s := res.GetStatus()
	if err := e.show(res, func(t *table) {
		t.header = []string{"LIMIT", "KEY", "LEFT", "OF", "WHOLE AGAIN IN", "NEXT CALL IN"}
		t.row(s.GetName(), l.Key, fmt.Sprint(s.GetRemaining()), fmt.Sprint(s.GetLimit()), span(s.GetReset_()), span(res.GetRetryAfter()))
	}); err != nil {
		return err
	}
	if !res.GetAllowed() {
		return exit{nil, exitNo}
	}
	return nil
}

// counted is the key that a limit counts somebody under: users by id, but for sign-ins.
func (a *api) counted(ctx context.Context, l *tollgatev1.Limit, key string) (string, error) {
	if l.GetSubject() != tollgatev1.Subject_SUBJECT_USER || key == "" || username.IsID(key) ||
		l.GetPermission() == "tollgate:login" || l.GetPermission() == "tollgate:second-factor" {
		return key, nil
	}
	user, err := a.user(ctx, key)
	return user.GetId(), err
}

type limitsReset struct {
	oneLimit

	Key string `arg:"" optional:"" help:"Whose count: a user's name or id, an address, an API key's id, a value of the context; nothing for a global limit."`
}

func (l limitsReset) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.limits.ResetLimit(ctx, &tollgatev1.ResetLimitRequest{Name: l.Name, Key: l.Key})
	if err != nil {
		return err
	}
	e.say("reset the count of limit %s for %q", l.Name, l.Key)
	return e.asked(res)
}
