package sandbox

import (
	"net/http"
	"strings"
)

// scimValue is an element of a multi-valued SCIM attribute (RFC 7643 section 2.4).
type scimValue struct {
	Display string `json:"display,omitempty"`
	Ref     string `json:"$ref,omitempty"`
	Type    string `json:"type,omitempty"`
	Value   string `json:"value,omitempty"`
	Primary bool   `json:"primary,omitempty"`
}

// me answers GET /api/2.0/preview/scim/v2/Me: who the token speaks for.
func (w *Workspace) me(rw http.ResponseWriter, r *http.Request, p principal) {
	// Every value is of the one table in this function, so that attributes and
	// excludedAttributes need no second list of names.
	user := map[string]any{
		"schemas":      []string{"urn:ietf:params:scim:schemas:core:2.0:User"},
		"id":           p.id,
		"userName":     p.name,
		"displayName":  p.displayName,
		"active":       true,
		"groups":       w.scimGroups(p),
		"entitlements": []scimValue{{Value: "workspace-access"}, {Value: "databricks-sql-access"}},
	}
	if !p.servicePrincipal {
		user["emails"] = scimEmails(p.emails)
		given, family, _ := strings.Cut(p.displayName, " ")
		user["name"] = map[string]string{"givenName": given, "familyName": family}
	}
	query := r.URL.Query()
	selectAttributes(user, query.Get("attributes"), query.Get("excludedAttributes"))
	writeJSON(rw, http.StatusOK, user)
}

func (w *Workspace) scimGroups(p principal) []scimValue {
	values := []scimValue{}
	for _, m := range w.directory.memberships(p.groups) {
		v := scimValue{Display: m.group, Value: m.id, Ref: "Groups/" + m.id, Type: "indirect"}
		if m.direct {
			v.Type = "direct"
		}
		values = append(values, v)
	}
	return values
}

func scimEmails(addresses []string) []scimValue {
	values := make([]scimValue, len(addresses))
	for i, a := range addresses {
		values[i] = scimValue{Value: a, Type: "work", Primary: i == 0}
	}
	return values
}

// selectAttributes applies RFC 7644 section 3.9: names are compared without
// case, id and schemas are always returned. A sub-attribute such as
// groups.display selects its whole attribute, and excludes nothing.
func selectAttributes(user map[string]any, attributes, excluded string) {
	wanted, unwanted := map[string]bool{}, map[string]bool{}
	for name := range strings.SplitSeq(strings.ToLower(attributes), ",") {
		name, _, _ = strings.Cut(strings.TrimSpace(name), ".")
		if name != "" {
			wanted[name] = true
		}
	}
	for name := range strings.SplitSeq(strings.ToLower(excluded), ",") {
		unwanted[strings.TrimSpace(name)] = true
	}
	for name := range user {
		key := strings.ToLower(name)
		if key == "id" || key == "schemas" {
			continue
		}
		if len(wanted) > 0 && !wanted[key] || unwanted[key] {
			delete(user, name)
		}
	}
}
