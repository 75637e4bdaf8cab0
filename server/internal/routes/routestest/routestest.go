// Package routestest has request targets that servers are known to read in more
// than one way, for tests of whatever stands in front of a protected service.
package routestest

import "github.com/tollgatehq/tollgate/server/internal/routes"

// Routes are the routes that Hostile names: much is public, and next to it is what
// needs a permission.
func Routes() []routes.Route {
	return []routes.Route{
		{Name: "home", Path: "/", Public: true},
		{Name: "page", Path: "/{page}", Public: true},
		{Name: "public", Path: "/public/{rest...}", Public: true},
		{Name: "admin", Path: "/admin", Permission: "admin:read"},
		{Name: "admin-below", Path: "/admin/{rest...}", Permission: "admin:read"},
		{Name: "order", Path: "/orders/{id}", Permission: "orders:read"},
		{Name: "notes", Path: "/orders/{id}/notes", Permission: "orders:read"},
	}
}

// Hostile is a request target.
type Hostile struct {
	Target string // the bytes of the request line, without a query
	Route  string // the one of Routes; empty: the path is refused; None: there is none
	About  string
}

// None is the Route of a path that is not refused and has no route.
const None = "-"

// HostilePaths are targets that reach something else than they look like on one
// server or another. Those with a Route mean the same everywhere: a server that
// finds something else there does not follow RFC 3986.
var HostilePaths = []Hostile{
	// Dot segments (RFC 3986 §5.2.4).
	{"/public/../admin", "", "a dot segment"},
	{"/public/./admin", "", "a single dot"},
	{"/./admin", "", "a single dot in front"},
	{"/../admin", "", "above the root"},
	{"/public/..", "", "a dot segment at the end"},
	{"/public/../", "", "a dot segment and a slash"},
	{"/.", "", "a dot alone"},
	{"/..", "", "two dots alone"},
	{"/public/%2e%2e/admin", "", "encoded dots"},
	{"/public/%2E%2E/admin", "", "encoded dots, upper case"},
	{"/public/.%2e/admin", "", "the second dot encoded"},
	{"/public/%2e./admin", "", "the first dot encoded"},
	{"/public/%2e/admin", "", "an encoded single dot"},
	{"/%2e%2e%2fadmin", "", "encoded dots and slash"},
	{"/public/..%2fadmin", "", "an encoded slash after the dots"},
	{"/public/%2e%2e%5cadmin", "", "encoded dots and backslash"},
	{"/public/.../admin", "", "three dots"},
	{"/public/..../admin", "", "four dots"},
	{"/public/..%20/admin", "", "dots and a space, which some file systems cut off"},
	{"/public/%20../admin", "", "a space before dots"},
	{"/public/.%20./admin", "", "a space between dots"},
	{"/public/%20/admin", "", "a segment that is a space"},
	{"/admin/..", "", "away from what is protected"},
	{"/public/../../admin", "", "twice up"},
	{"/public/%2e%2e/%2e%2e/admin", "", "twice up, encoded"},

	// Parameters of segments, which servlet containers cut off.
	{"/public/..;/admin", "", "dots with an empty parameter"},
	{"/public/..;a=b/admin", "", "dots with a parameter"},
	{"/public/.;/admin", "", "a dot with a parameter"},
	{"/admin;a=b", "", "a parameter at the end"},
	{"/admin;/x", "", "an empty parameter"},
	{"/;/admin", "", "a segment of a parameter alone"},
	{"/;a=b/admin", "", "a parameter alone"},
	{"/admin%3ba=b", "", "an encoded semicolon"},
	{"/public/..%3b/admin", "", "dots with an encoded semicolon"},
	{"/public/%2e%2e%3b/admin", "", "all of it encoded"},
	{"/admin;jsessionid=1", "", "a session in the path"},

	// Slashes.
	{"//admin", "", "two slashes, which look like a host"},
	{"///admin", "", "three slashes"},
	{"/public//admin", "", "an empty segment"},
	{"/admin//", "", "two slashes at the end"},
	{"//", "", "slashes alone"},
	{"//evil.example/admin", "", "another host"},
	{"/%2fadmin", "", "an encoded slash in front"},
	{"/%2Fadmin", "", "an encoded slash, upper case"},
	{"/public%2fadmin", "", "an encoded slash"},
	{"/public%2f..%2fadmin", "", "encoded slashes around dots"},
	{"/admin%2f", "", "an encoded slash at the end"},
	{"/admin%2fusers", "", "an encoded slash below"},
	{"/orders/7%2fnotes", "", "an encoded slash in a parameter"},
	{"/orders/..%2f..%2fadmin", "", "a way up in a parameter"},
	{"/%2f%2fevil.example", "", "an encoded host"},

	// Backslashes, which URL parsers of browsers take for slashes.
	{`/public\admin`, "", "a backslash"},
	{`/public\..\admin`, "", "backslashes around dots"},
	{`/public/..\admin`, "", "a backslash after dots"},
	{`\admin`, "", "a backslash in front"},
	{`/\admin`, "", "a backslash after the slash"},
	{`/\evil.example/admin`, "", "a host after a backslash"},
	{"/public%5cadmin", "", "an encoded backslash"},
	{"/public%5C..%5Cadmin", "", "encoded backslashes around dots"},
	{"/%5cadmin", "", "an encoded backslash in front"},

	// Encoded more than once.
	{"/%2561dmin", "", "a letter encoded twice"},
	{"/%252561dmin", "", "a letter encoded three times"},
	{"/public/%252e%252e/admin", "", "dots encoded twice"},
	{"/public/%25252e%25252e/admin", "", "dots encoded three times"},
	{"/public/..%252fadmin", "", "a slash encoded twice"},
	{"/public%252fadmin", "", "a slash encoded twice, without dots"},
	{"/public%25252fadmin", "", "a slash encoded three times"},
	{"/public%255cadmin", "", "a backslash encoded twice"},
	{"/admin%2500", "", "a NUL encoded twice"},
	{"/admin%253b", "", "a semicolon encoded twice"},
	{"/public/%%32%65%%32%65/admin", "", "digits of an escape encoded"},
	{"/public/%25%32%65/admin", "", "every character of an escape encoded"},

	// Escapes that are none.
	{"/admin%", "", "a percent sign at the end"},
	{"/admin%2", "", "an escape cut short"},
	{"/admin%zz", "", "not hexadecimal"},
	{"/admin%2g", "", "half hexadecimal"},
	{"/%u0061dmin", "", "the escape of IIS"},
	{"/public/%u002e%u002e/admin", "", "dots in the escape of IIS"},
	{"/public/%uff0e%uff0e/admin", "", "wide dots in the escape of IIS"},
	{"/admin% 20", "", "a space in an escape"},
	{"/admin%+1", "", "a sign in an escape"},

	// Controls.
	{"/admin%00", "", "an encoded NUL"},
	{"/admin%00.html", "", "an encoded NUL before a suffix"},
	{"/public/%00/../admin", "", "a NUL and dots"},
	{"/public/..%00/admin", "", "dots and a NUL"},
	{"/admin%0a", "", "an encoded line feed"},
	{"/admin%0d%0aX-Injected:%201", "", "an encoded header"},
	{"/admin%09", "", "an encoded tab"},
	{"/public/.%09./admin", "", "an encoded tab between dots, which browsers drop"},
	{"/admin%1f", "", "an encoded control character"},
	{"/admin%7f", "", "an encoded DEL"},
	{"/admin%c2%80", "", "a control character of C1"},
	{"/admin%c2%85", "", "a next line of C1"},
	{"/admin%c2%9f", "", "the last of C1"},
	{"/admin\x00", "", "a NUL as it is"},
	{"/admin\x01", "", "a control character as it is"},
	{"/admin\t", "", "a tab as it is"},
	{"/admin\x7f", "", "a DEL as it is"},
	{"/admin x", "", "a space as it is"},
	{" /admin", "", "a space in front"},

	// Not UTF-8.
	{"/admin%ff", "", "a byte that UTF-8 does not have"},
	{"/admin%80", "", "a continuation alone"},
	{"/admin%c3", "", "cut short"},
	{"/admin%c3%28", "", "a wrong continuation"},
	{"/public/%c0%ae%c0%ae/admin", "", "overlong dots"},
	{"/public/%e0%80%ae%e0%80%ae/admin", "", "overlong dots of three bytes"},
	{"/public/%f0%80%80%ae/admin", "", "an overlong dot of four bytes"},
	{"/public%c0%afadmin", "", "an overlong slash"},
	{"/public%e0%80%afadmin", "", "an overlong slash of three bytes"},
	{"/public%c1%9cadmin", "", "an overlong backslash"},
	{"/admin%c0%80", "", "an overlong NUL"},
	{"/%c1%a1dmin", "", "an overlong letter"},
	{"/admin%ed%a0%80", "", "half of a surrogate pair"},
	{"/admin%f4%90%80%80", "", "beyond Unicode"},
	{"/admin\xff", "", "a byte that UTF-8 does not have, as it is"},
	{"/admin\xc0\xaf", "", "an overlong slash as it is"},

	// Not a path.
	{"http://evil.example/admin", "", "absolute form"},
	{"HTTP://evil.example/admin", "", "absolute form, upper case"},
	{"https://user@evil.example/admin", "", "absolute form with a user"},
	{"evil.example:443", "", "authority form"},
	{"*", "", "asterisk form"},
	{"admin", "", "no slash in front"},
	{"%2fadmin", "", "an encoded slash alone in front"},
	{"/admin#x", "", "a fragment"},
	{"/public/x#/../admin", "", "a fragment with dots"},

	// What has one meaning.
	{"/admin", "admin", "as it should be"},
	{"/admin/", "admin", "a slash at the end"},
	{"/%61dmin", "admin", "an encoded letter"},
	{"/%61%64%6d%69%6e", "admin", "all letters encoded"},
	{"/%61%64%6D%69%6E/", "admin", "all letters encoded, upper case"},
	{"/admin/users", "admin-below", "below"},
	{"/admin/%75sers", "admin-below", "below, with an encoded letter"},
	{"/orders/%37", "order", "an encoded parameter"},
	{"/orders/7/%6eotes", "notes", "an encoded literal after a parameter"},
	{"/orders/a%20b", "order", "a space in a parameter"},
	{"/orders/50%25", "order", "a percent sign in a parameter"},
	{"/orders/%25zz", "order", "a percent sign before letters that are no escape"},
	{"/orders/..a", "order", "dots before a letter"},
	{"/orders/a..", "order", "dots after a letter"},
	{"/ADMIN", "page", "upper case: another path"},
	{"/Admin", "page", "mixed case: another path"},
	{"/admin.", "page", "a dot at the end: another path"},
	{"/admin%2e", "page", "an encoded dot at the end"},
	{"/admin%20", "page", "an encoded space at the end"},
	{"/admin.html", "page", "a suffix"},
	{"/admin~", "page", "a backup"},
	{"/admin+", "page", "a plus is no space in a path"},
	{"/admin%3f", "page", "an encoded question mark is no query"},
	{"/admin%3fx=1", "page", "an encoded query"},
	{"/admin%23", "page", "an encoded number sign is no fragment"},
	{"/admin%26", "page", "an encoded ampersand"},
	{"/admin:8080", "page", "a colon"},
	{"/@admin", "page", "an at sign"},
	{"/admin%ef%bc%8fusers", "page", "a wide slash is a letter"},
	{"/public%e2%88%95admin", "page", "a division slash is a letter"},
	{"/public%e2%81%84admin", "page", "a fraction slash is a letter"},
	{"/public/%ef%bc%8e%ef%bc%8e/admin", "public", "wide dots are letters"},
	{"/public/%e2%80%a5/admin", "public", "a two-dot leader is a letter"},
	{"/%ef%bd%81dmin", "page", "a wide letter is another"},
	{"/%d0%b0dmin", "page", "a Cyrillic letter is another"},
	{"/admin%cc%81", "page", "a combining accent"},
	{"/admin%e2%80%8b", "page", "a space of no width"},
	{"/admin%e2%80%ae", "page", "a change of direction"},
	{"/admin\u00e9", "page", "UTF-8 as it is"},
	{"/orders/7/notes/8", None, "longer than any route"},
	{"/public", "public", "nothing below"},
}
