package child

import (
	"path"
	"slices"
	"strings"
)

const (
	prefix    = "OBO_"
	urlPrefix = prefix + "URL_"
)

// commands are those of the relay that can be a child.
var commands = []string{"obo-broker", "obo-publisher", "obo-worker"}

// Environ is the environment of a child: its parent's without the relay's settings and secrets, with the variables of add
// (NAME=value), which replace others of their name. See the package's documentation for the rule.
func Environ(parent, words, add []string) []string {
	env := slices.Clone(parent)
	if !isOurs(words) {
		env = slices.DeleteFunc(env, isSetting)
	}
	for _, variable := range add {
		name, _, _ := strings.Cut(variable, "=")
		env = slices.DeleteFunc(env, func(other string) bool {
			n, _, _ := strings.Cut(other, "=")
			return n == name
		})
		env = append(env, variable)
	}
	return env
}

// NoProxy are variables for a child that calls its parent on loopback. Where the environment names a proxy, HTTP clients would
// else hand that the call, and the person's token in it.
func NoProxy(parent []string) []string {
	proxy, except := false, ""
	for _, variable := range parent {
		name, value, _ := strings.Cut(variable, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "all_proxy":
			proxy = proxy || value != ""
		case "no_proxy":
			if except == "" || name == "no_proxy" { // most clients prefer the lower case
				except = value
			}
		}
	}
	if !proxy || except == "*" {
		return nil
	}
	except = strings.TrimPrefix(except+",localhost,127.0.0.1,::1", ",")
	return []string{"NO_PROXY=" + except, "no_proxy=" + except}
}

// isSetting tells a variable of the relay's from others. Some systems do not tell upper from lower case.
func isSetting(variable string) bool {
	upper := strings.ToUpper(variable)
	return strings.HasPrefix(upper, prefix) && !strings.HasPrefix(upper, urlPrefix)
}

func isOurs(words []string) bool {
	for _, word := range words {
		if word == "--" {
			return false
		}
		base := path.Base(strings.ReplaceAll(word, `\`, "/"))
		if slices.Contains(commands, strings.TrimSuffix(base, ".exe")) {
			return true
		}
	}
	return false
}
