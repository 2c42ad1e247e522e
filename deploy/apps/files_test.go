package apps

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	platform "github.com/databricks/databricks-sdk-go/service/apps"
	"go.yaml.in/yaml/v3"

	"github.com/obo-relay/obo-relay/deploy/setup"
)

// folders are the apps' by the name that the bundle gives them.
var folders = map[string]string{"ui": "streamlit-ui", "middleware": "fastapi-middleware"}

// The broker app, by the name that the bundle gives it and its folder, which is the app's name.
const brokerKey, brokerFolder = "obo_broker", "obo-broker"

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
	UserAPIScopes  []string `json:"user_api_scopes,omitempty"`
	Resources      []any    `json:"resources,omitempty"`
	MinInstances   int      `json:"compute_min_instances,omitzero"`
	MaxInstances   int      `json:"compute_max_instances,omitzero"`
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
	scopes, brokers := map[string]string{}, 0
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
			if a := resource.App; a != nil {
				brokers++
				if a.Name != "${resources.apps."+brokerKey+".name}" || a.Permission != platform.AppResourceAppAppPermissionCanUse {
					t.Errorf("%s: %+v", key, a)
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
	if len(apps) != len(folders)+1 || len(scopes) != len(folders) || brokers != len(folders) {
		t.Errorf("%d apps, %d scopes and %d ways to the broker app: want %d and a broker", len(apps), len(scopes), brokers, len(folders))
	}
	broker := apps[brokerKey]
	if broker.Name != brokerFolder || broker.SourceCodePath != "./"+brokerFolder || broker.MinInstances != 1 || broker.MaxInstances != 1 || broker.Resources != nil {
		t.Errorf("%+v", broker)
	}
}

// app.yaml says valueFrom and the bundle value_from, and each ignores the other's word.
func TestEachFileHasItsOwnSpelling(t *testing.T) {
	t.Parallel()
	for file, other := range map[string]string{
		"databricks.yml": "valueFrom", "streamlit-ui/app.yaml": "value_from", "fastapi-middleware/app.yaml": "value_from", "obo-broker/app.yaml": "value_from",
	} {
		text, err := os.ReadFile(filepath.FromSlash(file))
		if err != nil || strings.Contains(string(text), other) {
			t.Errorf("%s says %s, which is not read there; %v", file, other, err)
		}
	}
}

// The kits are where the commands of obo init --databricks put them, and the broker is where it says.
func TestFilesAgreeWithSetup(t *testing.T) {
	t.Parallel()
	made, err := setup.Init(setup.Config{Dir: t.TempDir(), NATSURL: "app:" + brokerFolder, Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"}})
	if err != nil {
		t.Fatal(err)
	}
	apps := readBundle(t)
	for _, side := range made.Sides {
		found := false
		for _, r := range apps[side.Name].Resources {
			var resource platform.AppResource
			convert(t, r, &resource)
			if s := resource.Secret; s != nil && s.Scope == "obo-"+side.Name && s.Key+".json" == filepath.Base(side.KitFile) {
				found = true
			}
		}
		if !found {
			t.Errorf("app %s does not read its kit from scope obo-%s", side.Name, side.Name)
		}
	}
	if c := readApp(t, brokerFolder).Command; !slices.Contains(c, filepath.Base(made.ServerConf)) {
		t.Errorf("the broker runs %q, without %s", c, made.ServerConf)
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
	for folder, side := range map[string]string{"streamlit-ui": "publisher", "fastapi-middleware": "worker", brokerFolder: "broker"} {
		if c := readApp(t, folder).Command; len(c) == 0 || c[0] != "obo-"+side || slices.Contains(c, "--") != (folder != brokerFolder) {
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

// What is deployed tomorrow is what was tested today.
func TestRequirementsArePinned(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/requirements.txt")
	if err != nil || len(files) != len(folders)+1 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range append(files, "../python/requirements.txt") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if line != "--find-links ./vendor" && !strings.HasPrefix(line, "# ") && !regexp.MustCompile(`^[a-z-]+==[0-9.]+$`).MatchString(line) {
				t.Errorf("%s: %q names no version", file, line)
			}
		}
	}
}
