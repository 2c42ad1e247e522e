package relay

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

// sideFiles are the files of one side in a directory of the test's, and the same as text.
type sideFiles struct {
	dir                    string
	key, trust, kit        string
	nkey, account          string
	keyFile, trustFile     string
	kitFile, nkeyFile      string
	secrets                []string
	otherKit, servicesOnly string
}

func newSideFiles(t *testing.T, role Role) sideFiles {
	t.Helper()
	mine, theirs := NewIdentity(), NewIdentity()
	trust := TrustFile{Type: TrustTypeName, Apps: map[string]JWKS{"ui": {[]JWK{theirs.Public()}}}}
	servicesOnly := TrustFile{Type: TrustTypeName, Services: map[string]JWKS{"middleware": {[]JWK{theirs.Public()}}}}
	if role == RoleApp {
		trust, servicesOnly = servicesOnly, trust
	}
	seed := func(create func() (nkeys.KeyPair, error)) string {
		pair, err := create()
		if err != nil {
			t.Fatal(err)
		}
		text, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	f := sideFiles{dir: t.TempDir(), nkey: seed(nkeys.CreateUser), account: seed(nkeys.CreateAccount)}
	text := func(v any) string {
		b, err := PrettyJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	kit := Kit{Type: KitTypeName, Role: role, Name: "mine", NATS: "nats://127.0.0.1:4222", NKey: f.nkey, Key: mine.Private(), Trust: trust, SubjectPrefix: "dev"}
	f.key, f.trust, f.kit, f.servicesOnly = text(mine.Private()), text(trust), text(kit), text(servicesOnly)
	kit.Role = map[Role]Role{RoleApp: RoleService, RoleService: RoleApp}[role]
	f.otherKit = text(kit)
	f.keyFile = f.write(t, "key.json", f.key, 0o600)
	f.trustFile = f.write(t, "trust.json", f.trust, 0o644)
	f.kitFile = f.write(t, "kit.json", f.kit, 0o600)
	f.nkeyFile = f.write(t, "nats.nk", f.nkey+"\n", 0o600)
	f.secrets = []string{f.nkey, f.account, mine.Private().D}
	return f
}

func (f sideFiles) write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// settings are those of the files, each on its own.
func (f sideFiles) settings() Settings {
	return Settings{
		KeyFile: f.keyFile, TrustFile: f.trustFile, Hints: HintsFull,
		NATSSettings: NATSSettings{NATS: "nats://127.0.0.1:4222", NKeyFile: f.nkeyFile},
	}
}

func TestSettingsLoad(t *testing.T) {
	t.Parallel()
	f := newSideFiles(t, RoleService)
	for name, s := range map[string]Settings{
		"files":    f.settings(),
		"contents": {Key: f.key, Trust: f.trust, Hints: HintsFull, NATSSettings: NATSSettings{NATS: "nats://127.0.0.1:4222", NKey: f.nkey}},
		"kit":      {Kit: f.kit, Hints: HintsFull},
		"kit file": {KitFile: f.kitFile, Hints: HintsFull},
	} {
		side, err := s.Load(RoleService)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if side.Identity.IsZero() || !side.Trust.Knows(RoleApp, "ui") || side.Connect.URL != "nats://127.0.0.1:4222" || side.Connect.NKeySeed != f.nkey || side.Hints != HintsFull {
			t.Errorf("%s: %+v", name, side)
		}
		if kit := strings.HasPrefix(name, "kit"); (side.Name == "mine") != kit || (side.Prefix == "dev") != kit {
			t.Errorf("%s: name %q, prefix %q", name, side.Name, side.Prefix)
		}
		if want := map[string]int{"files": 2, "kit file": 1}[name]; len(side.watched) != want {
			t.Errorf("%s: %d files are watched, want %d", name, len(side.watched), want)
		}
	}
}

// What is given on its own beats the kit.
func TestSettingsBeatTheKit(t *testing.T) {
	t.Parallel()
	f, other := newSideFiles(t, RoleApp), newSideFiles(t, RoleApp)
	s := Settings{
		KitFile: f.kitFile, KeyFile: other.keyFile, Trust: other.trust, Hints: HintsNone,
		NATSSettings: NATSSettings{NATS: "wss://broker.example", NKey: other.nkey, SubjectPrefix: "prod"},
	}
	side, err := s.Load(RoleApp)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ParseIdentity([]byte(other.key))
	if err != nil {
		t.Fatal(err)
	}
	if side.Identity.Kid() != want.Kid() || side.Connect.URL != "wss://broker.example" || side.Connect.NKeySeed != other.nkey || side.Prefix != "prod" || len(side.watched) != 1 {
		t.Errorf("%+v", side)
	}
	content := "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n" + other.nkey + "\n------END USER NKEY SEED------\n"
	creds := other.write(t, "user.creds", content, 0o600)
	for _, n := range []NATSSettings{{CredsFile: creds}, {Creds: content}} {
		s = Settings{KitFile: f.kitFile, Hints: HintsFull, NATSSettings: n}
		if side, err = s.Load(RoleApp); err != nil || side.Connect.NKeySeed != "" || side.Connect.CredsFile != n.CredsFile || side.Connect.Creds != n.Creds {
			t.Errorf("creds beside a kit: %v, %v", side, err)
		}
	}
}

func TestSettingsFaults(t *testing.T) {
	t.Parallel()
	f := newSideFiles(t, RoleService)
	open := f.write(t, "open.json", f.key, 0o644)
	openSeed := f.write(t, "open.nk", f.nkey, 0o640)
	openKit := f.write(t, "open-kit.json", f.kit, 0o604)
	for name, c := range map[string]struct {
		change func(*Settings)
		want   []string
	}{
		"nothing": {func(s *Settings) { *s = Settings{Hints: HintsFull} }, []string{
			"--kit (OBO_KIT): no configuration is given: set OBO_KIT", "valueFrom", "--kit-file; obo init makes it",
		}},
		"nothing but a user": {func(s *Settings) {
			*s = Settings{Hints: HintsFull, NATSSettings: NATSSettings{NKeyFile: f.nkeyFile}}
		}, []string{
			"--key-file (OBO_KEY_FILE): no identity key: name the file, or set OBO_KEY", "OBO_KIT",
			"--trust-file (OBO_TRUST_FILE): no trust file", "--nats (OBO_NATS): no NATS server",
		}},
		"missing files": {func(s *Settings) {
			s.KeyFile, s.TrustFile, s.NKeyFile, s.NATSCAFile = "no/key.json", "no/trust.json", "no/nats.nk", "no/ca.pem"
		}, []string{
			"--key-file (OBO_KEY_FILE): open no/key.json: no such file", "make the file with obo init",
			"--trust-file (OBO_TRUST_FILE): open no/trust.json", "--nkey-file (OBO_NKEY_FILE): open no/nats.nk",
			"--nats-ca-file (OBO_NATS_CA_FILE): open no/ca.pem",
		}},
		"others can read": {func(s *Settings) { s.KeyFile, s.NKeyFile, s.KitFile = open, openSeed, openKit }, []string{
			"(OBO_KEY_FILE): " + open + " has mode 0644", "chmod 600 " + open,
			"(OBO_NKEY_FILE): " + openSeed + " has mode 0640", "(OBO_KIT_FILE): " + openKit + " has mode 0604",
		}},
		"directories": {func(s *Settings) { s.KeyFile, s.TrustFile = f.dir, f.dir }, []string{"(OBO_KEY_FILE): " + f.dir + " is a directory", "(OBO_TRUST_FILE)"}},
		"contents as names": {func(s *Settings) { s.KitFile, s.KeyFile, s.NKeyFile = f.kit, f.key, f.nkey }, []string{
			"--kit-file (OBO_KIT_FILE): this is no file, and looks like the secret itself: give it without -file (_FILE)",
			"--key-file (OBO_KEY_FILE): this is no file", "--nkey-file (OBO_NKEY_FILE): this is no file",
		}},
		"credentials as a name": {func(s *Settings) {
			s.CredsFile, s.NKeyFile = "-----BEGIN USER NKEY SEED-----\n"+f.nkey, ""
		}, []string{"--creds-file (OBO_CREDS_FILE): this is no file"}},
		"file and content": {func(s *Settings) { s.Key, s.Trust, s.NKey, s.Kit, s.KitFile = f.key, f.trust, f.nkey, f.kit, f.kitFile }, []string{
			"--key (OBO_KEY): the content is given, and a file too with --key-file (OBO_KEY_FILE)", "--trust (OBO_TRUST): ", "--nkey (OBO_NKEY): ", "--kit (OBO_KIT): ",
		}},
		"other side's kit":   {func(s *Settings) { *s = Settings{Kit: f.otherKit, Hints: HintsFull} }, []string{`--kit (OBO_KIT): kit: it is for role "app"`, "swapped"}},
		"other side's trust": {func(s *Settings) { s.TrustFile, s.Trust = "", f.servicesOnly }, []string{"--trust (OBO_TRUST): the trust names no app"}},
		"public key":         {func(s *Settings) { s.KeyFile, s.Key = "", `{"kty":"OKP"}` }, []string{"--key (OBO_KEY): private key: "}},
		"swapped contents":   {func(s *Settings) { s.KeyFile, s.Key, s.NKeyFile, s.NKey = "", f.nkey, "", f.key }, []string{"--key (OBO_KEY): ", "--nkey (OBO_NKEY): the nkey is not the seed"}},
		"account seed":       {func(s *Settings) { s.NKeyFile, s.NKey = "", f.account }, []string{"--nkey (OBO_NKEY): the nkey is not the seed of a NATS user"}},
		"seed and creds":     {func(s *Settings) { s.CredsFile = f.nkeyFile }, []string{"--creds (OBO_CREDS): an nkey is given too"}},
		"no creds":           {func(s *Settings) { s.CredsFile, s.NKeyFile = f.nkeyFile, "" }, []string{"--creds-file (OBO_CREDS_FILE): these are not credentials of a NATS user"}},
		"creds twice":        {func(s *Settings) { s.CredsFile, s.NKeyFile, s.Creds = f.nkeyFile, "", f.nkey }, []string{"--creds (OBO_CREDS): the content is given, and a file too"}},
		"URL":                {func(s *Settings) { s.NATS = "nats://user:" + f.nkey + "@[" }, []string{"--nats (OBO_NATS): nats://[ is not a URL"}},
		"prefix":             {func(s *Settings) { s.SubjectPrefix = "a b" }, []string{"--subject-prefix (OBO_SUBJECT_PREFIX): "}},
		"hints":              {func(s *Settings) { s.Hints = "all" }, []string{`--hints (OBO_HINTS): hints "all"`}},
		"no PEM":             {func(s *Settings) { s.NATSCAFile = f.trustFile }, []string{"--nats-ca-file (OBO_NATS_CA_FILE): " + f.trustFile + " holds no certificate"}},
		"half a certificate": {func(s *Settings) { s.NATSCertFile = f.trustFile }, []string{"--nats-cert-key-file (OBO_NATS_CERT_KEY_FILE): the private key"}},
		"other half":         {func(s *Settings) { s.NATSCertKeyFile = f.keyFile }, []string{"--nats-cert-file (OBO_NATS_CERT_FILE): the certificate"}},
		"no certificate":     {func(s *Settings) { s.NATSCertFile, s.NATSCertKeyFile = f.trustFile, f.keyFile }, []string{"--nats-cert-file (OBO_NATS_CERT_FILE): tls: "}},
	} {
		s := f.settings()
		c.change(&s)
		_, err := s.Load(RoleService)
		if err == nil {
			t.Errorf("%s: no fault", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the faults lack %q:\n%v", name, want, err)
			}
		}
		for _, secret := range f.secrets {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: a secret in the faults:\n%v", name, err)
			}
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "--") || !strings.Contains(line, "(OBO_") {
				t.Errorf("%s: a fault without its flag: %s", name, line)
			}
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	_, err := (&Settings{Hints: "x", NATSSettings: NATSSettings{SubjectPrefix: "?"}}).Load(RoleApp)
	if err == nil {
		t.Fatal("no fault")
	}
	var text, json bytes.Buffer
	LogSettings{LogFormat: "text"}.Report(&text, "obo-x", err)
	LogSettings{LogFormat: "json"}.Report(&json, "obo-x", err)
	lines := strings.Count(err.Error(), "\n") + 1
	if strings.Count(text.String(), "obo-x: ERROR: --") != lines || strings.Count(json.String(), `"level":"ERROR","msg":"obo-x: --`) != lines {
		t.Errorf("%d faults:\n%s%s", lines, &text, &json)
	}
}
