package cli

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	tollgatev1 "github.com/tollgatehq/tollgate/gen/tollgate/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

type auditSummary struct {
	eventFilter
	period

	By string `help:"A line for each hour, day or action." enum:"hour,day,action" default:"hour" placeholder:"WHAT"`
}

// widest is the longest bar, in characters.
const widest = 40

func (a auditSummary) Run(ctx context.Context, e *env) error {
	server, err := e.connect()
	if err != nil {
		return err
	}
	req := a.counting()
	if req.After, req.Before, err = a.times(e.now()); err != nil {
		return err
	}
	if a.By != "hour" {
		req.Bucket = tollgatev1.SummaryBucket_SUMMARY_BUCKET_DAY
	}
	if a.By == "action" && req.After == nil { // as long as by the hour
		end := e.now()
		if req.Before != nil {
			end = req.Before.AsTime()
		}
		req.After = timestamppb.New(end.Add(-24 * time.Hour))
	}
	res, err := server.audit.GetSummary(ctx, req)
	if err != nil {
		return err
	}
	return e.show(res, func(t *table) {
		t.header = []string{strings.ToUpper(a.By), "SUCCESS", "DENIED", "FAILURE", "TOTAL", ""}
		lines := a.lines(res)
		most := int64(0)
		for _, l := range lines {
			most = max(most, l.total())
		}
		for _, l := range lines {
			bar := strings.Repeat("█", int((l.total()*widest+most-1)/max(most, 1)))
			t.row(l.name, number(l.success), number(l.denied), number(l.failure), number(l.total()), cmp.Or(bar, " "))
		}
	})
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// line is what was counted in an hour or day, or of an action.
type line struct {
	name                     string
	success, denied, failure int64
}

func (l *line) total() int64 { return l.success + l.denied + l.failure }

// lines are those of times in their order, also of times in which nothing happened, or
// those of actions, the most frequent first.
func (a auditSummary) lines(res *tollgatev1.GetSummaryResponse) (lines []*line) {
	named := map[string]*line{}
	add := func(name string) *line {
		if named[name] == nil {
			named[name] = &line{name: name}
			lines = append(lines, named[name])
		}
		return named[name]
	}
	length, form := time.Hour, "2006-01-02T15:04Z"
	if a.By == "day" {
		length, form = 24*time.Hour, time.DateOnly
	}
	if a.By != "action" {
		for at := res.GetAfter().AsTime().Truncate(length); at.Before(res.GetBefore().AsTime()); at = at.Add(length) {
			add(at.Format(form))
		}
	}
	for _, c := range res.GetCounts() {
		name := c.GetAction()
		if a.By != "action" {
			name = c.GetTime().AsTime().Format(form)
		}
		l := add(name)
		switch c.GetOutcome() {
		case tollgatev1.Outcome_OUTCOME_DENIED:
			l.denied += c.GetCount()
		case tollgatev1.Outcome_OUTCOME_FAILURE:
			l.failure += c.GetCount()
		default:
			l.success += c.GetCount()
		}
	}
	if a.By == "action" {
		slices.SortStableFunc(lines, func(a, b *line) int { return cmp.Or(cmp.Compare(b.total(), a.total()), cmp.Compare(a.name, b.name)) })
	}
	return lines
}
