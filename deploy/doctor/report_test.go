package doctor

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/obo-relay/obo-relay/schemas"
)

func schema(t *testing.T) (*jsonschema.Schema, map[string]any) {
	t.Helper()
	data, err := schemas.Read(TypeName)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(schemas.Base+TypeName+".json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(schemas.Base + TypeName + ".json")
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

// checkDocument wants that the schema accepts the report, and returns both of its forms.
func checkDocument(t *testing.T, r *Report) string {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := schema(t)
	if err := fits(t, s, data); err != nil {
		t.Errorf("%v: %s", err, data)
	}
	return string(data) + r.text()
}

func TestExamples(t *testing.T) {
	s, _ := schema(t)
	files, err := filepath.Glob(filepath.Join("..", "..", "schemas", "examples", TypeName, "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		valid := strings.HasPrefix(filepath.Base(file), "valid-")
		if err := fits(t, s, data); (err == nil) != valid {
			t.Errorf("%s: the schema says %v", file, err)
		}
		var r Report
		var want, got map[string]any
		if valid {
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			again, _ := json.Marshal(r)
			if json.Unmarshal(data, &want) != nil || json.Unmarshal(again, &got) != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s is written as %s", file, again)
			}
		}
	}
}

// The schema's properties are the fields of the Go types, and it requires those that are always written.
func TestSchemaIsTheGoType(t *testing.T) {
	_, doc := schema(t)
	compare := func(schema map[string]any, typ reflect.Type) {
		properties, n := schema["properties"].(map[string]any), 0
		for f := range typ.Fields() {
			name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			n++
			required := slices.Contains(schema["required"].([]any), any(name))
			if properties[name] == nil || (option == "omitzero") == required {
				t.Errorf("%s %s: schema and Go type differ", typ, name)
			}
		}
		if n != len(properties) {
			t.Errorf("%s: %d fields, %d properties", typ, n, len(properties))
		}
	}
	compare(doc, reflect.TypeFor[Report]())
	properties := doc["properties"].(map[string]any)
	compare(properties["checks"].(map[string]any)["items"].(map[string]any), reflect.TypeFor[Check]())
	compare(properties["round_trip"].(map[string]any)["items"].(map[string]any), reflect.TypeFor[Part]())
}

func TestExitCodes(t *testing.T) {
	for want, verdicts := range map[int][]Verdict{0: {OK, Skipped}, 3: {OK, Warning, Skipped}, 1: {Warning, Failed, OK}} {
		r := newReport(time.Now())
		for _, v := range verdicts {
			r.add(Check{Name: "x", Verdict: v, Detail: "two\nlines\x1b[2J\u009b2J"})
		}
		if r.ExitCode() != want || r.Checks[0].Detail != "two lines\ufffd[2J\ufffd2J" {
			t.Errorf("%v: %d, %q", verdicts, r.ExitCode(), r.Checks[0].Detail)
		}
	}
}
