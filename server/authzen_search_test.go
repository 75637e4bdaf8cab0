package main_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/tollgatehq/tollgate/server/internal/backendtest"
)

// sorted are words in order.
func sorted(words string) string {
	list := strings.Fields(words)
	slices.Sort(list)
	return strings.Join(list, " ")
}

// TestAuthZENSearchCertification asks the searches of the certification scenario.
func TestAuthZENSearchCertification(t *testing.T) {
	t.Parallel()
	p := certified(t)
	admin, archived := object{"role": "admin"}, object{"status": "archived"}
	for name, c := range map[string]struct {
		path string
		body object
		want string
	}{
		"who reads record-1":                    {searchSubject, about("x read record/record-1"), "alice bob admin"},
		"what alice reads":                      {searchResource, about("alice read record/x"), "record-1 record-2"},
		"what alice may do":                     {searchAction, about("alice x record/record-1"), "read write"},
		"who writes an archived record":         {searchSubject, with(about("x write record/record-2"), "resource", archived), "bob admin"},
		"what an admin writes":                  {searchResource, with(about("bob write record/x"), "subject", admin), "record-2"},
		"what an admin may do":                  {searchAction, with(with(about("bob x record/record-2"), "subject", admin), "resource", archived), "read write"},
		"who writes record-1, were it archived": {searchSubject, with(about("x write record/record-1"), "resource", archived), "bob admin"},
		"who, if all were admins":               {searchSubject, with(about("x write record/record-2"), "subject", admin), "alice bob admin"},
		"who deletes softly":                    {searchSubject, with(about("x delete record/record-1"), "action", object{"soft": true}), "alice admin"},
		"an unknown type of subject":            {searchSubject, object{"subject": entity("spaceship/x", nil), "action": object{"name": "read"}, "resource": entity("record/record-1", nil)}, ""},
		"an unknown type of resource":           {searchResource, about("alice read planet/x"), ""},
		"an unknown resource":                   {searchSubject, about("x read record/none"), "alice bob admin"},
		"an unknown subject":                    {searchAction, about("nonexistent-user x record/record-1"), ""},
		"an unknown subject's resources":        {searchResource, about("nonexistent-user read record/x"), ""},
		"an unknown action":                     {searchResource, about("alice publish record/x"), ""},
		"no permission":                         {searchSubject, about("x READ record/record-1"), ""},
		"no type":                               {searchAction, about("alice x Record/record-1"), ""},
		"Tollgate's own, who":                   {searchSubject, about("x authorize tollgate/x"), ""},
		"Tollgate's own, what":                  {searchAction, about("admin x tollgate/x"), ""},
		"Tollgate's own, which":                 {searchResource, about("admin authorize tollgate/x"), ""},
	} {
		// What is searched for may be there or not.
		for range 2 {
			if got := p.named(t, c.path, with(c.body, "resource", properties(c.body, "resource"))); sorted(got) != sorted(c.want) {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
			switch c.path {
			case searchSubject:
				delete(c.body["subject"].(object), "id")
			case searchResource:
				delete(c.body["resource"].(object), "id")
			default:
				delete(c.body, "action")
			}
		}
	}
}

func properties(body object, member string) object {
	given, _ := body[member].(object)["properties"].(object)
	if given == nil {
		return object{}
	}
	return given
}

// records are twenty records, 101 to 120: department, owner, who views, who edits and
// who deletes, by initials. A person views what they own, what is of their department,
// and, as a manager, everything; edits what they own and, as a manager, what is of
// their department; and deletes what they own.
var records = strings.Fields(`
	Legal/a/abcd/a/a Legal/b/abcd/b/b Legal/c/abcd/c/c Accounting/d/adf/d/d Legal/e/abcde/e/e
	Accounting/f/adf/f/f Sales/a/ad/a/a Legal/b/abcd/b/b Accounting/c/acdf/c/c Sales/d/ad/ad/d
	Accounting/e/adef/e/e Legal/f/abcdf/f/f Sales/a/ad/a/a Accounting/b/abdf/b/b Finance/c/acde/cd/c
	Legal/d/abcd/d/d Legal/e/abcde/e/e Accounting/f/adf/f/f Legal/a/abcd/a/a Accounting/b/abdf/b/b`)

// TestAuthZENSearches asks all 60 + 18 + 120 searches over these records and six
// people, and each decision that they say.
func TestAuthZENSearches(t *testing.T) {
	t.Parallel()
	p := decisionPoint(t)
	const own, department, manager = `resource.attributes.owner == principal.username`,
		`resource.attributes.department == principal.attributes.department`, `principal.attributes.role == "manager"`
	p.role(t, "staff", "record:view if "+own+" || "+department+" || "+manager,
		"record:edit if "+own+" || "+manager+" && "+department, "record:delete if "+own)
	people := []struct{ name, role, department string }{
		{"alice", "manager", "Sales"}, {"bob", "employee", "Legal"}, {"carol", "contractor", "Legal"},
		{"dan", "manager", "Finance"}, {"erin", "employee", "Finance"}, {"felix", "contractor", "Accounting"},
	}
	full := map[byte]string{}
	for _, who := range people {
		full[who.name[0]] = who.name
		p.user(t, who.name, object{"role": who.role, "department": who.department}, "staff")
	}
	id := func(i int) string { return "1" + string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10)) }
	actions := []string{"view", "edit", "delete"}
	may := map[string]bool{"admin": true}
	for i, record := range records {
		part := strings.Split(record, "/")
		p.Put(t, "/v1/resources/record/"+id(i), object{"attributes": object{"department": part[0], "owner": full[part[1][0]]}})
		for n, action := range actions {
			for _, initial := range []byte(part[2+n]) {
				may[full[initial]+" "+action+" record/"+id(i)] = true
			}
		}
	}
	asked := 0
	search := func(path, question string, each func(yield func(name, question string))) {
		asked++
		var want []string
		each(func(name, question string) {
			if may[question] {
				want = append(want, name)
			}
		})
		if got := p.named(t, path, about(question)); sorted(got) != sorted(strings.Join(want, " ")) {
			t.Errorf("%s: %q, want %q", question, got, want)
		}
	}
	for i := range records {
		for _, action := range actions {
			search(searchSubject, "x "+action+" record/"+id(i), func(yield func(string, string)) {
				for _, who := range people {
					yield(who.name, who.name+" "+action+" record/"+id(i))
				}
				yield("admin", "admin") // the server's own, who may everything
			})
		}
	}
	for _, who := range people {
		for _, action := range actions {
			search(searchResource, who.name+" "+action+" record/x", func(yield func(string, string)) {
				for i := range records {
					yield(id(i), who.name+" "+action+" record/"+id(i))
				}
			})
		}
		for i := range records {
			search(searchAction, who.name+" x record/"+id(i), func(yield func(string, string)) {
				for _, action := range actions {
					yield(action, who.name+" "+action+" record/"+id(i))
				}
			})
		}
	}
	backendtest.Equal(t, asked, 60+18+120, "searches")
	for i := range records {
		for _, who := range people {
			q := about(who.name + " view record/" + id(i))
			q["evaluations"] = []any{object{}, object{"action": object{"name": "edit"}}, object{"action": object{"name": "delete"}}}
			var want strings.Builder
			for _, action := range actions {
				want.WriteString(map[bool]string{true: "+", false: "-"}[may[who.name+" "+action+" record/"+id(i)]])
			}
			backendtest.Equal(t, decisions(p.asks(t, evaluations, q)), want.String(), "%s of %s", who.name, id(i))
		}
	}
}

// TestAuthZENPages reads searches page by page, and carries a page's token to others.
func TestAuthZENPages(t *testing.T) {
	t.Parallel()
	p := certified(t)
	questions := map[string]object{
		searchSubject: about("x read record/record-1"), searchResource: about("alice read record/x"), searchAction: about("alice x record/record-1"),
	}
	tokens := map[string]string{}
	for path, q := range questions {
		whole := p.named(t, path, about("alice read record/record-1"))
		var one []string
		q["page"] = object{"limit": 1, "unknown": true, "properties": object{}}
		for {
			a := p.asks(t, path, q)
			if len(a.List("results")) > 1 {
				t.Fatalf("%s: more than were asked for: %s", path, a.Raw)
			}
			for _, r := range a.List("results") {
				if name, ok := r["name"]; ok {
					r["id"] = name
				}
				one = append(one, r["id"].(string))
			}
			again := p.asks(t, path, q)
			backendtest.Equal(t, string(again.Raw), string(a.Raw), "asked again")
			next := a.Str("page", "next_token")
			if next == "" {
				break
			}
			if tokens[path] == "" {
				tokens[path] = next
			}
			q["page"] = object{"limit": 1, "token": next}
		}
		backendtest.Equal(t, strings.Join(one, " "), whole, "%s, one by one", path)
	}
	refused := func(path string, q, page object) {
		t.Helper()
		q["page"] = page
		isText(t, p.pep.Call(t, "POST", path, q).Want(t, 400))
	}
	refused(searchSubject, about("x write record/record-1"), object{"token": tokens[searchSubject]})
	refused(searchSubject, with(about("x read record/record-1"), "subject", object{"a": 1}), object{"token": tokens[searchSubject]})
	refused(searchResource, about("bob read record/x"), object{"token": tokens[searchResource]})
	refused(searchResource, about("alice read record/x"), object{"token": tokens[searchSubject]})
	refused(searchAction, about("alice x record/record-2"), object{"token": tokens[searchAction]})
	for _, page := range []object{{"token": 1}, {"token": "x"}, {"token": nil}, {"limit": -1}, {"limit": 1.5}, {"limit": "1"}, {"limit": nil}} {
		refused(searchSubject, about("x read record/record-1"), page)
	}
	for _, page := range []any{nil, []any{}, 1, "x"} {
		q := about("x read record/record-1")
		q["page"] = page
		p.pep.Call(t, "POST", searchSubject, q).Want(t, 400)
	}
	for _, page := range []object{{}, {"limit": 0}, {"limit": 1e12}, {"token": ""}} {
		q := about("x read record/record-1")
		q["page"] = page
		backendtest.Equal(t, len(p.asks(t, searchSubject, q).List("results")), 3, "%v", page)
	}
}
