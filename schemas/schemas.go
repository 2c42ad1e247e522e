// Package schemas holds the JSON Schema (draft 2020-12) of every JSON document of obo, on the wire or on disk.
//
// The schema of the document with the type constant T is the file T.json, and its $id ends in T.json. Schemas refer to
// each other by that file name. What a schema cannot say (two members that must agree, a key on its curve, a time that
// has passed) stands in relay/PROTOCOL.md. examples/T holds documents that are valid and documents that are not.
package schemas

import (
	"embed"
	"slices"
	"strings"
)

//go:embed *.json
var files embed.FS

// Base is what the $id of each schema begins with.
const Base = "https://github.com/obo-relay/obo-relay/schemas/"

// Names lists the type constants of all documents, sorted.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the embedded root is always there
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	slices.Sort(names)
	return names
}

// Read returns the schema of the document with the type constant T; the error is fs.ErrNotExist if there is none.
func Read(name string) ([]byte, error) { return files.ReadFile(name + ".json") }
