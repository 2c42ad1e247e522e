package demo

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/relay"
)

// command is something to copy into a shell or a file, for one visitor.
type command struct {
	Title string `json:"title"`
	Note  string `json:"note"`
	Text  string `json:"text"`
}

// commands are made for a stage that is up.
type commands struct {
	stage *Stage
	files *tokenFiles
	obo   string // how the obo command is called
}

func newCommands(s *Stage, files *tokenFiles, obo string) commands { return commands{s, files, obo} }

// of returns a visitor's commands. None holds a token, only the name of a file that does.
func (c commands) of(visitor string) []command {
	dir := shellQuote(c.stage.Files.Config.Dir)
	return []command{
		{"curl", "Any program, through the sidecar beside the UI app.",
			"curl -i -H @" + shellQuote(c.files.header(visitor)) + " " + c.stage.Sidecar + "/groups"},
		{"Python", "What a Streamlit app would write, with the standard library only.", c.python(visitor)},
		{"obo call", "Straight over NATS, with the UI app's kit and without the sidecar.",
			fmt.Sprintf("%s call --kit-file %s --token-file %s middleware /groups",
				c.obo, shellQuote(c.stage.Files.Side(relay.RoleApp, uiApp).KitFile), shellQuote(c.files.token(visitor)))},
		{"nats", "The operator's view. The inspector may look on, and nothing else.",
			fmt.Sprintf("XDG_CONFIG_HOME=%s nats --context %s micro stats obo-%s\nXDG_CONFIG_HOME=%[1]s nats --context %[2]s sub 'obo.v1.>'",
				dir, natsconf.InspectorContext, middlewareApp)},
	}
}

// python is five lines.
func (c commands) python(visitor string) string {
	return strings.Join([]string{
		"import json, urllib.request",
		"token = open(" + strconv.Quote(c.files.token(visitor)) + ").read().strip()",
		"headers = {" + strconv.Quote(relay.HeaderAccessToken) + ": token}",
		"request = urllib.request.Request(" + strconv.Quote(c.stage.Sidecar+"/groups") + ", headers=headers)",
		"print(json.load(urllib.request.urlopen(request)))",
	}, "\n")
}

// shellQuote quotes a path for a POSIX shell where that is needed.
func shellQuote(s string) string {
	plain := strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune("/._-+:@%", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) < 0
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
