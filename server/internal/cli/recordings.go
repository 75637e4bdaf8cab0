package cli

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"github.com/tollgatehq/tollgate/server/internal/cli/paging"
)

type auditRecordings struct {
	List   recordingsList   `cmd:"" help:"List recordings: which allowed calls are recorded."`
	Get    recordingsGet    `cmd:"" help:"Show a recording."`
	Create recordingsCreate `cmd:"" help:"Have allowed calls recorded. From then on they are allowed only when they can be."`
	Edit   recordingsEdit   `cmd:"" help:"Change a recording: by flags, or in an editor when none is given."`
	Delete recordingsDelete `cmd:"" help:"Remove a recording. What was recorded stays."`
}

type recordingsList struct{ limited }

func (r recordingsList) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := paging.All(r.Limit, func(size int32, token string) (*tollgatev1.ListRecordingsResponse, error) {
		return server.audit.ListRecordings(ctx, &tollgatev1.ListRecordingsRequest{PageSize: size, PageToken: token})
	})
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{"NAME", "PERMISSION", "SAMPLE", "DESCRIPTION"}
		for _, r := range res.GetRecordings() {
			t.row(r.GetName(), r.GetPermission(), percent(r.GetSample()), r.GetDescription())
		}
	})
}

// million is the sample that has all calls.
const million = 1_000_000

// percent is a sample for people: 100%, 0.25%.
func percent(sample int32) string {
	return strconv.FormatFloat(float64(sample)*100/million, 'f', -1, 64) + "%"
}

// sampleOf reads a sample: a share such as 1% or 0.0025%, or how many of a million.
func sampleOf(text string) (int32, error) {
	share, percent := strings.CutSuffix(text, "%")
	scale := 1.0
	if percent {
		scale = million / 100
	}
	n, err := strconv.ParseFloat(share, 64)
	sample := math.Round(n * scale)
	if err != nil || !(sample >= 1 && sample <= million) || math.Abs(sample-n*scale) > 1e-6 {
		return 0, fmt.Errorf("--sample %q must be a share from 0.0001%% to 100%%, or how many of a million", text)
	}
	return int32(sample), nil
}

type oneRecording struct {
	Name string `arg:"" help:"The recording's name."`
}

func (o oneRecording) get(ctx context.Context, e *env) (*api, *tollgatev1.GetRecordingResponse, error) {
	server, err := e.connect()
	if err != nil {
		return nil, nil, err
	}
	res, err := server.audit.GetRecording(ctx, &tollgatev1.GetRecordingRequest{Name: o.Name})
	return server, res, err
}

type recordingsGet struct{ oneRecording }

func (r recordingsGet) Run(ctx context.Context, e *env) error {
	_, res, err := r.get(ctx, e)
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		r := res.GetRecording()
		t.row("name", r.GetName())
		t.row("description", r.GetDescription())
		t.row("permission", r.GetPermission())
		t.row("sample", percent(r.GetSample()))
		t.row("changed", when(r.GetUpdatedAt()))
	})
}

type recordingsCreate struct {
	oneRecording

	Permission  string `required:"" help:"Which calls: a permission or pattern, orders:*; tollgate:* is Tollgate's own API." placeholder:"PATTERN"`
	Sample      string `help:"How many of all that can be asked, always the same: 1%, or how many of a million. Default: all." placeholder:"SHARE"`
	Description string `help:"What it is for." placeholder:"TEXT"`
}

func (r recordingsCreate) Run(ctx context.Context, e *env) error {
	req := &tollgatev1.CreateRecordingRequest{Name: r.Name, Permission: r.Permission, Description: r.Description}
	if r.Sample != "" {
		var err error
		if req.Sample, err = sampleOf(r.Sample); err != nil {
			return err
		}
	}
	server, err := e.connect()
	if err != nil {
		return err
	}
	res, err := server.audit.CreateRecording(ctx, req)
	if err != nil {
		return err
	}
	e.say("created recording %s: %s of %s", r.Name, percent(res.GetRecording().GetSample()), r.Permission)
	return e.asked(res)
}

type recordingsEdit struct {
	oneRecording

	Permission  *string `help:"Which calls." placeholder:"PATTERN"`
	Sample      *string `help:"How many of all that can be asked: 1%, or how many of a million." placeholder:"SHARE"`
	Description *string `help:"What it is for." placeholder:"TEXT"`
}

func (r recordingsEdit) Run(ctx context.Context, e *env) error {
	update := &tollgatev1.UpdateRecordingRequest{Name: r.Name, Permission: r.Permission, Description: r.Description}
	if r.Sample != nil {
		sample, err := sampleOf(*r.Sample)
		if err != nil {
			return err
		}
		update.Sample = &sample
	}
	server, got, err := r.get(ctx, e)
	if err != nil {
		return err
	}
	if r.Permission == nil && r.Sample == nil && r.Description == nil {
		if err := e.editFields(ctx, "The recording "+r.Name, got.GetRecording(), &tollgatev1.CreateRecordingRequest{}, update, "name"); err != nil {
			return err
		}
	}
	res, err := server.audit.UpdateRecording(ctx, update)
	if err != nil {
		return err
	}
	e.say("changed recording %s: %s of %s", r.Name, percent(res.GetRecording().GetSample()), res.GetRecording().GetPermission())
	return e.asked(res)
}

type recordingsDelete struct {
	oneRecording
	confirmed
}

func (r recordingsDelete) Run(ctx context.Context, e *env) error {
	server, got, err := r.get(ctx, e)
	if err != nil {
		return err
	}
	if err := r.confirm(ctx, e, "record allowed calls of %s by %s no more", got.GetRecording().GetPermission(), r.Name); err != nil {
		return err
	}
	res, err := server.audit.DeleteRecording(ctx, &tollgatev1.DeleteRecordingRequest{Name: r.Name})
	if err != nil {
		return err
	}
	e.say("removed recording %s", r.Name)
	return e.asked(res)
}
