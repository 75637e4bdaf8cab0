package export

import (
	"strconv"
	"strings"

	"github.com/tollgatehq/tollgate/server/internal/audit"
)

// ocsfVersion is the schema's: https://schema.ocsf.io/1.4.0
const ocsfVersion = "1.4.0"

// The classes of OCSF that events become, and what the schema calls them.
const (
	accountChange  = 3001 // in the category 3, Identity & Access Management
	authentication = 3002
	apiActivity    = 6003 // in the category 6, Application Activity
)

// The activities that no class names.
const otherActivity = 99

// kind is what an action is in OCSF.
type kind struct{ class, activity int }

// kinds are those of Tollgate's own actions about accounts and sign-ins. All others are
// API activity.
var kinds = map[audit.Action]kind{
	audit.Login:         {authentication, 1}, // Logon
	audit.Logout:        {authentication, 2}, // Logoff
	audit.SessionRevoke: {authentication, 2},
	audit.TokenIssue:    {authentication, otherActivity},
	audit.TokenRevoke:   {authentication, otherActivity},
	audit.Refresh:       {authentication, otherActivity},
	audit.RefreshReuse:  {authentication, otherActivity},

	audit.UserCreate:         {accountChange, 1},
	audit.PasswordChange:     {accountChange, 3},
	audit.PasswordReset:      {accountChange, 4},
	audit.UserDelete:         {accountChange, 6},
	audit.RoleAssign:         {accountChange, 7}, // Attach Policy
	audit.RoleUnassign:       {accountChange, 8}, // Detach Policy
	audit.SecondFactorOn:     {accountChange, 10},
	audit.SecondFactorOff:    {accountChange, 11},
	audit.SecondFactorReset:  {accountChange, 11},
	audit.SecondFactorEnroll: {accountChange, otherActivity},
	audit.UserUpdate:         {accountChange, otherActivity},
}

// verbs are the activities of API Activity by the last word of an action.
var verbs = map[string]int{
	"create": 1, "put": 3, "update": 3, "rotate": 3, "rewrap": 3, "reset": 3, "delete": 4, "remove": 4, "revoke": 4,
	"read": 2, "list": 2, "get": 2, "view": 2, "explained": 2,
}

func kindOf(e *audit.Event) kind {
	if k, known := kinds[e.Action]; known {
		return k
	}
	action := string(e.Action)
	if activity := verbs[action[strings.LastIndexByte(action, '.')+1:]]; activity != 0 {
		return kind{apiActivity, activity}
	}
	return kind{apiActivity, otherActivity}
}

// appendProduct appends what every event says of who reports it.
func appendProduct(out []byte, version string) []byte {
	out = append(out, `"product":{"name":"Tollgate","vendor_name":"Tollgate"`...)
	if version != "" {
		out = appendMember(out, `,"version":`, version)
	}
	return append(out, `},"version":"`+ocsfVersion+`","log_name":"audit"`...)
}

// appendOCSF appends an event's line: one event of the Open Cybersecurity Schema
// Framework. What has no attribute there is in unmapped.
func appendOCSF(out []byte, entry *audit.Entry, product []byte) []byte {
	e := &entry.Event
	k := kindOf(e)
	number := func(name string, n int64) {
		out = append(out, name...)
		out = strconv.AppendInt(out, n, 10)
	}
	optional := func(name, value string) {
		if value != "" {
			out = appendMember(out, name, value)
		}
	}
	number(`{"class_uid":`, int64(k.class))
	number(`,"category_uid":`, int64(k.class/1000))
	number(`,"activity_id":`, int64(k.activity))
	number(`,"type_uid":`, int64(k.class*100+k.activity))
	if k.activity == otherActivity {
		out = appendMember(out, `,"activity_name":`, string(e.Action))
	}
	number(`,"time":`, e.Time.UnixMilli())
	number(`,"severity_id":`, severity(e))
	if e.Outcome == audit.Success {
		out = append(out, `,"status_id":1,"status":"Success"`...)
	} else {
		out = append(out, `,"status_id":2,"status":"Failure"`...)
		optional(`,"status_code":`, e.Reason)
		optional(`,"status_detail":`, string(e.Outcome))
	}
	out = appendMember(out, `,"message":`, string(e.Action)+": "+string(e.Outcome))

	out = append(append(out, `,"metadata":{`...), product...)
	optional(`,"uid":`, e.ID)
	number(`,"sequence":`, entry.Leaf)
	optional(`,"event_code":`, string(e.Action))
	optional(`,"correlation_uid":`, e.RequestID)
	out = append(out, `},"actor":`...)
	out = appendActor(out, e)
	// Required of API activity, with at least one of a few names.
	out = append(out, `,"src_endpoint":{`...)
	if e.IP != "" {
		out = appendMember(out, `"ip":`, e.IP)
	} else {
		out = append(out, `"name":"unknown"`...)
	}
	out = append(out, '}')
	if e.UserAgent != "" {
		out = append(appendMember(out, `,"http_request":{"user_agent":`, e.UserAgent), '}')
	}
	out = appendClass(out, k, e)

	out = append(out, `,"unmapped":{"details":`...)
	out = appendDetails(out, e.Details)
	optional(`,"resource":`, e.Resource)
	optional(`,"recorded_by":`, e.RecordedBy)
	return append(out, "}}\n"...)
}

// appendClass appends what the event's class requires besides.
func appendClass(out []byte, k kind, e *audit.Event) []byte {
	switch k.class {
	case authentication:
		out = append(out, `,"user":`...)
		out = appendUser(out, e.ActorID, e.ActorName, "")
		out = append(out, `,"service":{"name":"Tollgate"}`...)
		if e.SessionID != "" {
			out = append(appendMember(out, `,"session":{"uid":`, e.SessionID), '}')
		}
	case accountChange:
		id, _ := strings.CutPrefix(e.Resource, "users/")
		role, isRole := strings.CutPrefix(e.Resource, "roles/")
		if isRole {
			id = e.Details["user_id"]
		}
		out = append(out, `,"user":`...)
		out = appendUser(out, id, e.Details["username"], "")
		if isRole {
			out = append(appendMember(out, `,"policies":[{"name":`, role), "}]"...)
		}
	default:
		out = append(appendMember(out, `,"api":{"operation":`, string(e.Action)), '}')
		if e.Resource != "" {
			out = append(appendMember(out, `,"resources":[{"name":`, e.Resource), "}]"...)
		}
	}
	return out
}

// appendActor appends who did it: an object that names at least one of a few.
func appendActor(out []byte, e *audit.Event) []byte {
	if e.ActorID == "" && e.ActorName == "" {
		out = append(out, `{"app_name":"unknown"`...)
	} else {
		out = appendUser(append(out, `{"user":`...), e.ActorID, e.ActorName, e.APIKeyID)
	}
	if e.SessionID != "" {
		out = append(appendMember(out, `,"session":{"uid":`, e.SessionID), '}')
	}
	return append(out, '}')
}

// appendUser appends a user, who has at least a name or an id.
func appendUser(out []byte, id, name, key string) []byte {
	out = append(out, '{')
	if id != "" {
		out = append(appendMember(out, `"uid":`, id), ',')
	}
	if name != "" || id == "" {
		if name == "" {
			name = "unknown"
		}
		out = append(appendMember(out, `"name":`, name), ',')
	}
	if key != "" {
		out = append(appendMember(out, `"credential_uid":`, key), ',')
	}
	switch {
	case id == "" && name == audit.SystemActor:
		out = append(out, `"type_id":3`...) // System
	case id != "":
		out = append(out, `"type_id":1`...) // User
	default:
		out = append(out, `"type_id":0`...) // Unknown
	}
	return append(out, '}')
}

// severity is 1 Informational, 2 Low or 4 High.
func severity(e *audit.Event) int64 {
	switch {
	case e.Action == audit.RefreshReuse: // a stolen token
		return 4
	case e.Outcome == audit.Success:
		return 1
	default:
		return 2
	}
}
