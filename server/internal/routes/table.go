package routes

import (
	"fmt"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/fault"
)

// Table is all routes, compiled. It does not change. The zero Table has none.
//
// Each host pattern has a tree of its own. A request looks in one tree for its
// host, one for each suffix of it and one for any host; in each it follows a
// literal, a parameter or both at each segment. How many routes there are makes no
// difference; only routes with literals and parameters at the same places, many
// times over, make it look at more of them.
type Table struct {
	exact  map[string]*node
	suffix map[string]*node // by the name after "*."
	any    *node            // nil: no route without a host
}

// node is what is known after some segments of a path.
type node struct {
	literal map[string]*node
	one     *node
	end     *leaf // the path ends here
	rest    *leaf // "{name...}": whatever follows
}

// leaf is all routes of one host pattern and one shape of path.
type leaf struct {
	methods map[string]*entry
	any     *entry // takes the methods that no other lists
}

// entry is a route as matching needs it.
type entry struct {
	route    *Route
	path     template
	resource text
	context  []fact
}

type fact struct {
	key   string
	value text
}

// NewTable compiles routes. The error is Invalid for a route that no table can
// hold, and Precondition, ROUTE_CONFLICT, for two that take the same requests.
func NewTable(routes []Route) (*Table, error) {
	t := &Table{exact: map[string]*node{}, suffix: map[string]*node{}}
	for i := range routes {
		e, err := newEntry(&routes[i])
		if err != nil {
			return nil, fmt.Errorf("route %q: %w", routes[i].Name, err)
		}
		if err := t.add(e); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func newEntry(r *Route) (*entry, error) {
	e := &entry{route: r}
	var err error
	if e.path, err = parseTemplate(r.Path); err != nil {
		return nil, err
	}
	if e.resource, err = parseText("resource", r.Resource, e.path); err != nil {
		return nil, err
	}
	for key, value := range r.Context {
		filled, err := parseText("context", value, e.path)
		if err != nil {
			return nil, err
		}
		e.context = append(e.context, fact{key, filled})
	}
	return e, nil
}

func (t *Table) add(e *entry) error {
	n := t.tree(e.route.Host)
	for _, s := range e.path {
		switch s.kind {
		case literal:
			n = n.child(s.text)
		case one:
			if n.one == nil {
				n.one = &node{}
			}
			n = n.one
		case rest:
			return e.into(&n.rest)
		}
	}
	return e.into(&n.end)
}

// tree is that of a host pattern, which it makes.
func (t *Table) tree(host string) *node {
	if host == "" {
		if t.any == nil {
			t.any = &node{}
		}
		return t.any
	}
	trees := t.exact
	if below, ok := strings.CutPrefix(host, "*."); ok {
		trees, host = t.suffix, below
	}
	if trees[host] == nil {
		trees[host] = &node{}
	}
	return trees[host]
}

func (n *node) child(text string) *node {
	if n.literal == nil {
		n.literal = map[string]*node{}
	}
	c := n.literal[text]
	if c == nil {
		c = &node{}
		n.literal[text] = c
	}
	return c
}

// into adds the route to those of its host and shape.
func (e *entry) into(at **leaf) error {
	if *at == nil {
		*at = &leaf{methods: map[string]*entry{}}
	}
	l := *at
	if len(e.route.Methods) == 0 {
		if l.any != nil {
			return conflict(e.route, l.any.route)
		}
		l.any = e
		return nil
	}
	for _, method := range e.route.Methods {
		if other := l.methods[method]; other != nil {
			return conflict(e.route, other.route)
		}
		l.methods[method] = e
	}
	return nil
}

func conflict(r, other *Route) *fault.Error {
	return fault.New(fault.Precondition, "ROUTE_CONFLICT",
		"the route %q matches the same host, path and method as %q; change one of them, or remove it", r.Name, other.Name)
}

// Match finds the route of a request by its method, its host, maybe with a port,
// and the path of its request target, as it was sent and without a query. It is
// false when there is none. The error is Invalid, PATH_REFUSED or HOST_REFUSED,
// for what is refused whatever the routes are.
//
// A method with a lower-case letter, which no route can list, has no route.
func (t *Table) Match(method, host, path string) (m Match, ok bool, err error) {
	var few [16]string
	segments, err := split(path, few[:0])
	if err != nil {
		return Match{}, false, err
	}
	host, ip, err := canonicalHost(host)
	if err != nil {
		return Match{}, false, err
	}
	l := t.find(host, ip, segments)
	if l == nil || !validMethod(method) {
		return Match{}, false, nil
	}
	e := l.take(method)
	if e == nil {
		return Match{}, false, nil
	}
	return e.match(segments), true, nil
}

// find is the most specific pattern of host and path.
func (t *Table) find(host string, ip bool, segments []string) *leaf {
	if host != "" {
		if l := t.exact[host].find(segments); l != nil {
			return l
		}
		for below := host; !ip && len(t.suffix) > 0; {
			var more bool
			if _, below, more = strings.Cut(below, "."); !more {
				break
			}
			if l := t.suffix[below].find(segments); l != nil {
				return l
			}
		}
	}
	return t.any.find(segments)
}

// find looks at literals before parameters, at each segment from the left.
func (n *node) find(segments []string) *leaf {
	if n == nil {
		return nil
	}
	if len(segments) == 0 {
		if n.end != nil {
			return n.end
		}
		return n.rest
	}
	if l := n.literal[segments[0]].find(segments[1:]); l != nil {
		return l
	}
	if l := n.one.find(segments[1:]); l != nil {
		return l
	}
	return n.rest
}

// take is the route for a method; nil when there is none.
func (l *leaf) take(method string) *entry {
	if e := l.methods[method]; e != nil {
		return e
	}
	if method == "HEAD" && l.methods["GET"] != nil {
		return l.methods["GET"]
	}
	return l.any
}

func (e *entry) match(segments []string) Match {
	m := Match{Route: e.route, Resource: e.resource.fill(e.path, segments)}
	for i, s := range e.path {
		if s.kind == literal {
			continue
		}
		if m.Parameters == nil {
			m.Parameters = map[string]string{}
		}
		m.Parameters[s.text] = e.path.parameter(i, segments)
	}
	if len(e.context) > 0 {
		m.Context = make(map[string]string, len(e.context))
		for _, f := range e.context {
			m.Context[f.key] = f.value.fill(e.path, segments)
		}
	}
	return m
}

// HasHosts says whether some route is for certain hosts, so that a request whose
// host is not known cannot be matched.
func (t *Table) HasHosts() bool { return len(t.exact)+len(t.suffix) > 0 }
