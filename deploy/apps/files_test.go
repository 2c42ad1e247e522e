package apps

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	platform "github.com/databricks/databricks-sdk-go/service/apps"
	"go.yaml.in/yaml/v3"
)

// folders are the apps' by the name that the bundle gives them.
var folders = map[string]string{"ui": "streamlit-ui", "middleware": "fastapi-middleware"}

// appYAML is an app.yaml: Databricks Apps, "Configure app execution with app.yaml".
type appYAML struct {
	Command []string `yaml:"command"`
	Env     []struct {
		Name      string `yaml:"name"`
		Value     string `yaml:"value"`
		ValueFrom string `yaml:"valueFrom"`
	} `yaml:"env"`
}

func readApp(t *testing.T, folder string) appYAML {
	t.Helper()
	f, err := os.Open(filepath.Join(folder, "app.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var app appYAML
	decoder := yaml.NewDecoder(f)
	decoder.KnownFields(true)
	if err := decoder.Decode(&app); err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	return app
}

// bundled is what databricks.yml says of one app.
type bundled struct {
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	SourceCodePath string   `json:"source_code_path"`
	UserAPIScopes  []string `json:"user_api_scopes"`
	Resources      []any    `json:"resources"`
}

func readBundle(t *testing.T) map[string]bundled {
	t.Helper()
	text, err := os.ReadFile("databricks.yml")
	if err != nil {
		t.Fatal(err)
	}
	var bundle struct {
		Resources struct {
			Apps map[string]any
		}
	}
	if err := yaml.Unmarshal(text, &bundle); err != nil {
		t.Fatal(err)
	}
	apps := map[string]bundled{}
	convert(t, bundle.Resources.Apps, &apps)
	return apps
}

// convert decodes into a type and wants nothing lost on the way: a field that it does not know is misspelt.
func convert(t *testing.T, from, to any) {
	t.Helper()
	var want, got any
	for _, step := range []struct{ from, to any }{{from, to}, {to, &got}, {from, &want}} {
		data, err := json.Marshal(step.from)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, step.to); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%T knows %v, not all of %v", to, got, want)
	}
}

func TestBundleSaysWhatThePlatformReads(t *testing.T) {
	t.Parallel()
	apps := readBundle(t)
	scopes := map[string]string{}
	for key, folder := range folders {
		app := apps[key]
		if app.SourceCodePath != "./"+folder || app.Name != key || !slices.Contains(app.UserAPIScopes, "sql") {
			t.Errorf("%s: %+v", key, app)
		}
		var names []string
		for _, r := range app.Resources {
			var resource platform.AppResource
			convert(t, r, &resource)
			names = append(names, resource.Name)
			if s := resource.Secret; s != nil {
				if other, taken := scopes[s.Scope]; taken {
					t.Errorf("%s and %s read the same scope %s", key, other, s.Scope)
				}
				scopes[s.Scope] = key
				if s.Permission != platform.AppResourceSecretSecretPermissionRead {
					t.Errorf("%s: %s", key, s.Permission)
				}
			}
			if w := resource.SqlWarehouse; w != nil && w.Permission != platform.AppResourceSqlWarehouseSqlWarehousePermissionCanUse {
				t.Errorf("%s: %s", key, w.Permission)
			}
		}
		for _, v := range readApp(t, folder).Env {
			if v.ValueFrom != "" && !slices.Contains(names, v.ValueFrom) {
				t.Errorf("%s: the variable %s is from %s, which is none of the resources %v", folder, v.Name, v.ValueFrom, names)
			}
		}
	}
	if len(apps) != len(folders) || len(scopes) != len(folders) {
		t.Errorf("%d apps and %d scopes, want %d of both", len(apps), len(scopes), len(folders))
	}
}

func TestAppsRunUnderTheRelay(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^VERSION +\?= (\S+)$`).FindSubmatch(makefile)
	if version == nil {
		t.Fatal("the Makefile has no VERSION")
	}
	for folder, side := range map[string]string{"streamlit-ui": "publisher", "fastapi-middleware": "worker"} {
		if c := readApp(t, folder).Command; len(c) == 0 || c[0] != "obo-"+side || !slices.Contains(c, "--") {
			t.Errorf("%s runs %q", folder, c)
		}
		requirements, err := os.ReadFile(filepath.Join(folder, "requirements.txt"))
		if err != nil {
			t.Fatal(err)
		}
		want := regexp.MustCompile(`(?m)^--find-links \./vendor\nobo-relay-` + side + `==` + regexp.QuoteMeta(string(version[1])) + `$`)
		if !want.Match(requirements) {
			t.Errorf("%s/requirements.txt lacks %s", folder, want)
		}
	}
}
