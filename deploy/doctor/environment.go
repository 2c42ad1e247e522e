package doctor

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// public are the variables whose values may be shown. Of any other only its presence is.
var public = []string{
	"DATABRICKS_APP_NAME", "DATABRICKS_APP_PORT", "DATABRICKS_HOST", "DATABRICKS_WORKSPACE_ID", "DATABRICKS_CLIENT_ID",
	"OBO_APP", "OBO_SERVICE", "OBO_WORKSPACE", "OBO_FORWARD", "OBO_HINTS", "OBO_SUBJECT_PREFIX",
}

// files are the variables whose values may be shown where they lead to a file. Else they may be the secret itself.
var files = []string{"OBO_KIT_FILE", "OBO_KEY_FILE", "OBO_TRUST_FILE", "OBO_NKEY_FILE"}

// shown reports whether the value of a variable may be shown.
func shown(name, value string) bool {
	if slices.Contains(files, name) {
		_, err := os.Stat(value)
		return err == nil
	}
	return slices.Contains(public, name) && !strings.Contains(value, "@") && len(value) < 200 // a URL may hold a password
}

// environment tells which variables there are.
func (d *doctor) environment() {
	facts := map[string]string{}
	var names []string
	printed := false // people's tokens
	for _, variable := range d.cfg.Environ {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "DATABRICKS_") && !strings.HasPrefix(name, "OBO_") || value == "" {
			continue
		}
		facts[name] = "set"
		printed = printed || name == "DATABRICKS_DEBUG_HEADERS" && worker.DebugsHeaders(value)
		if shown(name, value) {
			facts[name] = value
		}
		names = append(names, name)
	}
	slices.Sort(names)
	detail := "no variable of DATABRICKS_ or OBO_ is set"
	if len(names) > 0 {
		var parts []string
		for _, name := range names {
			parts = append(parts, name+"="+facts[name])
		}
		detail = strings.Join(parts, " ")
	}
	check := Check{Name: "environment", Verdict: OK, Detail: detail, Facts: facts}
	if len(facts) == 0 {
		check.Facts = nil
	}
	if printed {
		check.Verdict, check.Remedy = Failed, "Unset DATABRICKS_DEBUG_HEADERS: it prints people's tokens to the log, and obo-worker does not start with it"
	}
	d.add(check)
}

// settings reports what is wrong with the side's configuration. False: the relay cannot be looked at.
func (d *doctor) settings() bool {
	remedy := "Name the kit with --kit-file, or put it into OBO_KIT; obo init makes it"
	if slices.ContainsFunc(d.cfg.Environ, func(v string) bool { return strings.HasPrefix(v, "DATABRICKS_APP_NAME=") }) {
		remedy = "Give the app its secret: a secret resource with the kit, and in app.yaml env OBO_KIT with valueFrom its name (deploy/apps); obo init makes the kit"
	}
	if d.cfg.SettingsFault != nil {
		for fault := range strings.SplitSeq(d.cfg.SettingsFault.Error(), "\n") {
			d.fail("settings", fault, remedy)
		}
		return false
	}
	if d.cfg.Side == nil {
		d.warn("settings", "no kit, key or NATS server is given, so the relay is not looked at", remedy)
		return false
	}
	d.Role, d.Name = d.cfg.Role, d.cfg.Name
	partner := relay.RoleService
	if d.cfg.Role == relay.RoleService {
		partner = relay.RoleApp
	}
	var trusted []string
	for _, name := range d.cfg.Side.Trust.Names(partner) {
		trusted = append(trusted, fmt.Sprintf("%s %s (key %s)", partner, name, strings.Join(d.cfg.Side.Trust.Kids(partner, name), ", ")))
	}
	d.ok("settings", fmt.Sprintf("%s %s, key %s; trusts %s", d.cfg.Role, d.cfg.Name, d.cfg.Side.Identity.Kid(), strings.Join(trusted, ", ")))
	return true
}
