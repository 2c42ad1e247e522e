package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/schemas"
)

func compileSchema(t *testing.T, name string) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	data, err := schemas.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(schemas.Base+name+".json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(schemas.Base + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return s, doc.(map[string]any)
}

func fits(t *testing.T, s *jsonschema.Schema, data []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// examples calls f with every example of a document.
func examples(t *testing.T, name string, f func(file string, data []byte, valid bool)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "schemas", "examples", name, "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d examples of %s, %v", len(files), name, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f(filepath.Base(file), data, strings.HasPrefix(filepath.Base(file), "valid-"))
	}
}

// The schema of policies and ParsePolicy agree on every example: a JSON document is a YAML one.
func TestPolicyExamples(t *testing.T) {
	schema, _ := compileSchema(t, PolicyTypeName)
	examples(t, PolicyTypeName, func(file string, data []byte, valid bool) {
		if err := fits(t, schema, data); (err == nil) != valid {
			t.Errorf("%s: the schema says %v", file, err)
		}
		if _, err := ParsePolicy(file, data); (err == nil) != valid {
			t.Errorf("%s: ParsePolicy says %v", file, err)
		}
	})
}

func TestAuditExamples(t *testing.T) {
	schema, _ := compileSchema(t, AuditTypeName)
	examples(t, AuditTypeName, func(file string, data []byte, valid bool) {
		if err := fits(t, schema, data); (err == nil) != valid {
			t.Errorf("%s: the schema says %v", file, err)
		}
		if !valid {
			return
		}
		var r AuditRecord
		var want, got map[string]any
		if err := errors.Join(json.Unmarshal(data, &r), json.Unmarshal(data, &want)); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		line, err := auditLine(&r)
		if err = errors.Join(err, json.Unmarshal(line, &got)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is written as %s, %v", file, line, err)
		}
	})
}

// The schema's properties are the fields of AuditRecord, it requires those that are always written, and what the worker
// writes fits it.
func TestAuditSchemaIsTheGoType(t *testing.T) {
	schema, doc := compileSchema(t, AuditTypeName)
	var required []string
	for _, r := range doc["required"].([]any) {
		required = append(required, r.(string))
	}
	properties := doc["properties"].(map[string]any)
	n := 0
	for f := range reflect.TypeFor[AuditRecord]().Fields() {
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		n++
		if properties[name] == nil || (option == "omitzero") == slices.Contains(required, name) {
			t.Errorf("%s: schema and Go type differ", name)
		}
	}
	if n != len(properties) {
		t.Errorf("%d fields, %d properties", n, len(properties))
	}
	for _, method := range []string{"GET", "X-~!#$%&'*+.^_`|", "G T"} {
		for _, path := range []string{"/", "/a%20b/~!$&'()*+,=:@[]{}|^`\"<>", "a?b"} {
			r := newTrail(nil, false, &bytes.Buffer{}).record(relay.NewID(), AuditFront, method, path, time.Now())
			r.judged(verdict{user: someUser(), rule: "/"})
			r.ended(200, "", time.Second, 1, 2)
			line, err := auditLine(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := fits(t, schema, line); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}
