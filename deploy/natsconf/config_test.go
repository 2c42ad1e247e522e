package natsconf_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
)

var update = flag.Bool("update", false, "write testdata/nats-server.conf anew")

// fixedKey is a public user nkey that is the same in every run.
func fixedKey(t *testing.T, n byte) []string {
	t.Helper()
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return []string{public}
}

func smallConfig(t *testing.T) natsconf.Config {
	return natsconf.Config{
		Listen:         "0.0.0.0:4222",
		TLS:            &natsconf.TLS{CertFile: "/etc/nats/cert.pem", KeyFile: "/etc/nats/key.pem"},
		WebSocket:      &natsconf.WebSocket{Listen: "0.0.0.0:8000"},
		Apps:           []natsconf.App{{Name: "ui", NKeys: fixedKey(t, 1), Calls: []string{"middleware"}}},
		Services:       []natsconf.Service{{Name: "middleware", NKeys: fixedKey(t, 2), Apps: []string{"ui"}}},
		InspectorNKeys: fixedKey(t, 3),
		SystemNKeys:    fixedKey(t, 4),
	}
}

// The whole text is kept under review, because operators read it.
func TestServerConfText(t *testing.T) {
	t.Parallel()
	text, err := smallConfig(t).ServerConf()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "nats-server.conf")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("the text differs from %s; run the test with -update and review the difference", path)
	}
	banned := regexp.MustCompile(`allow_responses|no_auth_user|mappings|imports|\bSU[A-Z2-7]{50}`)
	for line := range strings.Lines(text) {
		setting, _, _ := strings.Cut(line, "#")
		if banned.MatchString(setting) {
			t.Errorf("%s", line)
		}
	}
}

// Every fault is reported, and all at once.
func TestFaults(t *testing.T) {
	t.Parallel()
	seed := string(newUser(t).seed(t))
	for name, c := range map[string]struct {
		spoil func(*natsconf.Config)
		want  []string
	}{
		"address":           {func(c *natsconf.Config) { c.Listen = "4222" }, []string{`Listen "4222"`}},
		"port":              {func(c *natsconf.Config) { c.Listen = "127.0.0.1:0" }, []string{"or -1"}},
		"injection":         {func(c *natsconf.Config) { c.StoreDir = "/x\"\nno_auth_user: a #" }, []string{"StoreDir"}},
		"injection by host": {func(c *natsconf.Config) { c.Listen = "a\" b:1" }, []string{"Listen"}},
		"half a TLS pair":   {func(c *natsconf.Config) { c.TLS.KeyFile = "" }, []string{"CertFile and KeyFile"}},
		"prefix wildcard":   {func(c *natsconf.Config) { c.SubjectPrefix = "a.*" }, []string{"SubjectPrefix"}},
		"prefix in inbox":   {func(c *natsconf.Config) { c.SubjectPrefix = "_INBOX.inspector" }, []string{"SubjectPrefix"}},
		"prefix in server":  {func(c *natsconf.Config) { c.SubjectPrefix = "$SYS" }, []string{"SubjectPrefix"}},
		"limit":             {func(c *natsconf.Config) { c.MaxConnections = -1 }, []string{"MaxConnections"}},
		"names": {func(c *natsconf.Config) { c.Apps[0].Name = "UI.*"; c.Services[0].Apps[0] = "UI.*" },
			[]string{`app name "UI.*"`}},
		"no calls":        {func(c *natsconf.Config) { c.Apps[0].Calls = nil }, []string{"calls no service", "no such app calls it"}},
		"not admitted":    {func(c *natsconf.Config) { c.Services[0].Apps = nil }, []string{"no such service admits it"}},
		"no key":          {func(c *natsconf.Config) { c.Apps[0].NKeys = nil }, []string{"has no nkey"}},
		"shared key":      {func(c *natsconf.Config) { c.Services[0].NKeys = c.Apps[0].NKeys }, []string{`already belongs to app "ui"`}},
		"no key at all":   {func(c *natsconf.Config) { c.SystemNKeys = []string{"x"} }, []string{"no public user nkey"}},
		"seed not public": {func(c *natsconf.Config) { c.SystemNKeys = []string{seed} }, []string{"is a seed"}},
		"no store":        {func(c *natsconf.Config) { c.AuditorNKeys = fixedKey(t, 5) }, []string{"needs a StoreDir"}},
		"auditor's key":   {func(c *natsconf.Config) { c.AuditorNKeys, c.StoreDir = c.SystemNKeys, "/x" }, []string{"already belongs"}},
		"twice": {func(c *natsconf.Config) { c.Apps = append(c.Apps, c.Apps[0]) },
			[]string{`app "ui" is listed twice`, "already belongs"}},
		"all at once": {func(c *natsconf.Config) { c.Listen, c.MaxConnections = "x", -1 }, []string{"Listen", "MaxConnections"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := smallConfig(t)
			c.spoil(&cfg)
			text, err := cfg.ServerConf()
			if err == nil {
				t.Fatalf("accepted:\n%s", text)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), seed) {
				t.Errorf("the error holds a seed")
			}
		})
	}
}

// The keys of the onlookers are optional, and so is everything that has a default.
func TestSmallestConfig(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *natsconf.Config) { c.InspectorNKeys, c.SystemNKeys = nil, nil })
	subscribe(t, f.connect(t, ui), "obo.v1.rep.ui.r1.*")
}

func TestCLIFaults(t *testing.T) {
	t.Parallel()
	paths, err := natsconf.CLI{InspectorSeedFile: "keys/inspector.nk", SystemSeedFile: "/home/$USER/system.nk"}.Write(t.TempDir())
	if err == nil {
		t.Fatalf("accepted: %v", paths)
	}
	for _, want := range []string{"URL", "InspectorSeedFile", "SystemSeedFile"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}
