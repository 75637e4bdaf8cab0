package limits

import "time"

// Edit is a change of a limit: what is set.
type Edit struct {
	Description    *string
	Permission     *string
	Rate           *int64
	Period         *time.Duration
	Burst          *int64
	Algorithm      *Algorithm
	Mode           *Mode
	Outage         *Outage
	Overrides      []Override // replace all, when not empty
	ClearOverrides bool
	Calendar       *Unit
	TimeZone       *string
	Lease          *bool
	LeaseTime      *time.Duration
}

func (e Edit) empty() bool {
	return e.Description == nil && e.Permission == nil && e.Rate == nil && e.Period == nil && e.Burst == nil &&
		e.Algorithm == nil && e.Mode == nil && e.Outage == nil && len(e.Overrides) == 0 && !e.ClearOverrides &&
		e.Lease == nil && e.LeaseTime == nil && e.Calendar == nil && e.TimeZone == nil
}

func (e Edit) apply(l Limit) Limit {
	if e.Algorithm != nil && *e.Algorithm != l.Algorithm {
		l.Algorithm = *e.Algorithm
		if !l.Algorithm.bursts() {
			l.Burst = 0
			for i := range l.Overrides {
				l.Overrides[i].Burst = 0
			}
		}
	}
	set(&l.Description, e.Description)
	set(&l.Permission, e.Permission)
	if e.Rate != nil && l.Burst == l.Rate { // a burst that is the rate stays the rate
		l.Burst = 0
	}
	set(&l.Rate, e.Rate)
	if l.Algorithm == Calendar {
		l.Period = 0 // as the calendar says
	} else {
		l.Calendar, l.TimeZone = "", ""
	}
	set(&l.Period, e.Period)
	set(&l.Calendar, e.Calendar)
	set(&l.TimeZone, e.TimeZone)
	set(&l.Burst, e.Burst)
	set(&l.Mode, e.Mode)
	set(&l.Outage, e.Outage)
	if len(e.Overrides) > 0 || e.ClearOverrides {
		l.Overrides = e.Overrides
	}
	if set(&l.Lease, e.Lease); !l.Lease {
		l.LeaseTime = 0
	}
	set(&l.LeaseTime, e.LeaseTime)
	return l
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}
