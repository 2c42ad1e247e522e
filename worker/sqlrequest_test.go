package worker

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/schemas"
)

// The schema and the decoder accept and refuse the same examples.
func TestSQLRequestExamples(t *testing.T) {
	data, err := schemas.Read(SQLRequestTypeName)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("..", "schemas", "examples", SQLRequestTypeName, "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		_, err = decodeSQLRequest(bytes.NewReader(data))
		if valid := strings.HasPrefix(name, "valid-"); valid != (err == nil) {
			t.Errorf("%s: %v", name, err)
		} else if !valid && !errors.Is(err, relay.CodeBadRequest) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "bad-repeated-member.json" || name == "bad-two-documents.json" {
			continue // what no schema can say
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err == nil {
			err = schema.Validate(instance)
		}
		if (err == nil) != strings.HasPrefix(name, "valid-") {
			t.Errorf("%s: the schema says %v", name, err)
		}
	}
}

// The schema's members are those of the Go type.
func TestSQLRequestSchemaIsTheType(t *testing.T) {
	data, err := schemas.Read(SQLRequestTypeName)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct {
			Items struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(data, &schema, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	names := func(typ reflect.Type) map[string]bool {
		out := map[string]bool{}
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			out[name] = true
		}
		return out
	}
	for name := range names(reflect.TypeFor[SQLRequest]()) {
		if _, ok := schema.Properties[name]; !ok {
			t.Errorf("the schema lacks %s", name)
		}
	}
	for name := range names(reflect.TypeFor[SQLParameter]()) {
		if schema.Properties["parameters"].Items.Properties[name] == nil {
			t.Errorf("the schema lacks parameters/%s", name)
		}
	}
}

func TestSQLRequestBounds(t *testing.T) {
	quoted := func(n int) string { return `"` + strings.Repeat("é", n) + `"` }
	many := func(n int) string { return "[" + strings.Repeat(`{"name":"a"},`, n-1) + `{"name":"a"}]` }
	for body, ok := range map[string]bool{
		`{"statement":` + quoted(maxStatement) + `}`:                                   true,
		`{"statement":` + quoted(maxStatement+1) + `}`:                                 false,
		`{"statement":"S","parameters":` + many(maxParameters) + `}`:                   true,
		`{"statement":"S","parameters":` + many(maxParameters+1) + `}`:                 false,
		`{"statement":"S","catalog":` + quoted(maxSQLName) + `}`:                       true,
		`{"statement":"S","schema":` + quoted(maxSQLName+1) + `}`:                      false,
		fmt.Sprintf(`{"statement":"S","row_limit":%d}`, int64(maxRowLimit)):            true,
		fmt.Sprintf(`{"statement":"S","row_limit":%d}`, int64(maxRowLimit)+1):          false,
		`{"statement":"S","warehouse_id":"` + strings.Repeat("a", 65) + `"}`:           false,
		`{"statement":"S","parameters":[{"name":"a","type":"TIMESTAMP_NTZ"}]}`:         true,
		`{"statement":"S","parameters":[{"name":"a","type":"decimal(10, 2)"}]}`:        true,
		`{"statement":"S","parameters":[{"name":"` + strings.Repeat("a", 256) + `"}]}`: false,
	} {
		if _, err := decodeSQLRequest(strings.NewReader(body)); (err == nil) != ok {
			t.Errorf("%.60s…: %v", body, err)
		}
	}
	// Faults name the place and repeat nothing of what was sent.
	_, err := decodeSQLRequest(strings.NewReader(`{"statement":"S","parameters":[{"name":"a","value":{"SECRET":1}}]}`))
	if err == nil || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "/parameters/0/value") {
		t.Error(err)
	}
	if q, err := decodeSQLRequest(strings.NewReader(`{"statement":"S","parameters":[{"name":"a","value":""},{"name":"b","value":null}]}`)); err != nil ||
		q.Parameters[0].Value == nil || q.Parameters[1].Value != nil {
		t.Errorf("an empty text and NULL are not told apart: %+v, %v", q, err)
	}
}

func TestChooseFormat(t *testing.T) {
	for accept, want := range map[string]*sqlFormat{
		"": formatNDJSON, "*/*": formatNDJSON, "application/x-ndjson": formatNDJSON, "application/jsonl": formatNDJSON,
		"text/csv": formatCSV, "text/*": formatCSV, "text/csv;q=0.5, */*;q=0.1": formatCSV, "text/csv;q=0.1, application/ndjson": formatNDJSON,
		"application/vnd.apache.arrow.stream": formatArrow, "TEXT/CSV": formatCSV,
		"application/json": nil, "text/html": nil, "text/csv;q=0": nil, "text/csv;q=x": nil, "text/csv;q=2": nil, ",;": nil, "image/*": nil,
	} {
		if got := chooseFormat(http.Header{"Accept": {accept}}); got != want {
			t.Errorf("%q: %+v", accept, got)
		}
	}
	if got := chooseFormat(http.Header{"Accept": {"image/png", "text/csv"}}); got != formatCSV {
		t.Error("the second field line is not read")
	}
}

func FuzzSQLRequest(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("..", "schemas", "examples", SQLRequestTypeName, "*.json"))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := decodeSQLRequest(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := decodeSQLRequest(bytes.NewReader(again)); err != nil || !reflect.DeepEqual(q, r) {
			t.Errorf("%s becomes %+v, %v", data, r, err)
		}
	})
}
