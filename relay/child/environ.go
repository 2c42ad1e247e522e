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
