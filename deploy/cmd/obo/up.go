package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/obo-relay/obo-relay/deploy/demo"
	"github.com/obo-relay/obo-relay/relay/child"
)

// upCommand keeps the demo's stage up, with a page.
type upCommand struct {
	Listen string `default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Where the page is: loopback only. Default: a free port of 127.0.0.1."`
	Dir    string `type:"path" placeholder:"DIR" help:"Where the relay's files go. Default: a directory that is removed at the end."`
}

// Run serves until it is stopped.
func (c *upCommand) Run(t *terminal) error {
	child.OutliveReaders() // obo up | head: it ends as always, and removes its files
	return demo.Up(t.ctx, demo.UpOptions{
		Config: demo.Config{Dir: c.Dir}, Listen: c.Listen, Out: t.stdout, Color: t.color, Command: self(),
	})
}

// self is how this program is called from a shell in the same directory.
func self() string {
	path, err := os.Executable()
	if err != nil {
		return command
	}
	if strings.Contains(path, "go-build") { // go run, which removes it at the end
		return "go run ./deploy/cmd/obo"
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return quote(path)
}
