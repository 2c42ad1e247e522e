package schemas_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/obo-relay/obo-relay/schemas"
)

func TestNamesAreTheFiles(t *testing.T) {
	files, err := filepath.Glob("*.json")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	for _, f := range files {
		want = append(want, strings.TrimSuffix(f, ".json"))
	}
	if got := schemas.Names(); !slices.Equal(got, want) || len(got) != 13 {
		t.Errorf("Names() = %v, the files are %v", got, want)
	}
}

func TestReadUnknown(t *testing.T) {
	for _, name := range []string{"", "obo.v1.nothing", "../relay/doc", "schemas"} {
		if _, err := schemas.Read(name); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Read(%q): %v, want fs.ErrNotExist", name, err)
		}
	}
}

// A schema's $id, title and file agree, it compiles, and every object in it is closed and every property explained.
func TestSchemasAreClosedAndExplained(t *testing.T) {
	c := jsonschema.NewCompiler()
	docs := map[string]map[string]any{}
	for _, name := range schemas.Names() {
		data, err := schemas.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		docs[name] = doc.(map[string]any)
		if err := c.AddResource(schemas.Base+name+".json", doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name, doc := range docs {
		if _, err := c.Compile(schemas.Base + name + ".json"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if doc["$id"] != schemas.Base+name+".json" || doc["title"] != name || doc["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s: $id %v, title %v, $schema %v", name, doc["$id"], doc["title"], doc["$schema"])
		}
		if properties, ok := doc["properties"].(map[string]any); ok {
			if typ, ok := properties["type"].(map[string]any); ok && typ["const"] != nil && typ["const"] != name {
				t.Errorf("%s: its type constant is %v", name, typ["const"])
			}
		}
		walk(t, name, doc)
	}
}

func walk(t *testing.T, at string, schema map[string]any) {
	if schema["description"] == nil || schema["description"] == "" {
		t.Errorf("%s has no description", at)
	}
	if schema["type"] == "object" && schema["additionalProperties"] == nil {
		t.Errorf("%s is an open object", at)
	}
	properties, _ := schema["properties"].(map[string]any)
	if properties != nil && schema["additionalProperties"] != false {
		t.Errorf("%s: additionalProperties is not false", at)
	}
	for name, p := range properties {
		walk(t, at+"/"+name, p.(map[string]any))
	}
	for _, member := range []string{"items", "additionalProperties"} {
		if sub, ok := schema[member].(map[string]any); ok {
			walk(t, at+"/"+member, sub)
		}
	}
}

// Package relay runs the examples; here they are only counted, so that none can go missing.
func TestExamplesExist(t *testing.T) {
	for _, name := range schemas.Names() {
		valid, _ := filepath.Glob(filepath.Join("examples", name, "valid-*.json"))
		bad, _ := filepath.Glob(filepath.Join("examples", name, "bad-*.json"))
		if len(valid) < 1 || len(bad) < 3 {
			t.Errorf("%s: %d valid and %d bad examples, want at least 1 and 3", name, len(valid), len(bad))
		}
		for _, file := range valid {
			data, err := os.ReadFile(file)
			if err != nil || !json.Valid(data) {
				t.Errorf("%s: %v, or not JSON", file, err)
			}
		}
	}
}
