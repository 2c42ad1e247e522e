package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// distribution is a Python package that brings one command.
type distribution struct {
	name    string // as pip knows it
	command string // package of the project
	summary string
	module  string // folder of the project with a Python module that goes with it; may be empty
}

var distributions = []distribution{
	{
		name: "obo-relay-publisher", command: "./publisher/cmd/obo-publisher", module: "deploy/python/obo_relay",
		summary: "obo-publisher: lets a UI app call services on behalf of the signed-in person, over NATS",
	},
	{
		name: "obo-relay-worker", command: "./worker/cmd/obo-worker",
		summary: "obo-worker: hands requests that came over NATS to the middleware app, on behalf of the person who made them",
	},
	{
		name: "obo-relay-broker", command: "./deploy/cmd/obo-broker",
		summary: "obo-broker: the relay's NATS server",
	},
	{
		name: "obo-relay-doctor", command: "./deploy/cmd/obo-doctor",
		summary: "obo-doctor: looks at everything that a request over the relay needs, and says what to mend",
	},
}

// escaped is the name in file names (PyPA, binary distribution format).
func (d distribution) escaped() string { return strings.ReplaceAll(d.name, "-", "_") }

// readModule returns the Python files that go with the command.
func (d distribution) readModule(source string) ([]file, error) {
	if d.module == "" {
		return nil, nil
	}
	root := filepath.Join(source, filepath.FromSlash(d.module))
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".py" && ext != ".typed" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{path.Join(path.Base(d.module), e.Name()), content, 0o644})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no Python module", root)
	}
	return files, nil
}

// file is one in an archive.
type file struct {
	name    string
	content []byte
	mode    fs.FileMode
}
