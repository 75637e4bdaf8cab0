package limits

// Outline is which calls a limit counts, for who decides calls elsewhere.
type Outline struct {
	Name       string
	Permission string // pattern
	Subject    Subject
	ContextKey string // SubjectCustom only
	Lease      bool
}

// Outline is that of one limit; false when there is none.
func (s *Service) Outline(name string) (Outline, bool) {
	r := s.rules.Load().byName[name]
	if r == nil {
		return Outline{}, false
	}
	return r.outline(), true
}

// Outlines are those of all limits, by name.
func (s *Service) Outlines() []Outline {
	list := s.rules.Load().list
	all := make([]Outline, len(list))
	for i, r := range list {
		all[i] = r.outline()
	}
	return all
}

func (r *rule) outline() Outline {
	return Outline{Name: r.Name, Permission: r.Permission, Subject: r.Subject, ContextKey: r.ContextKey, Lease: r.Lease}
}
