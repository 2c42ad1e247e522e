package relay

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// Settings are the flags that both sides share. The commands embed it and fill it with kong, whose tags the fields bear;
// with kong.DefaultEnvars("OBO") the flag --key-file is the variable OBO_KEY_FILE too. A flag that names a file has a twin
// that holds the content.
type Settings struct {
	KitFile   string `name:"kit-file" placeholder:"FILE" help:"This side's whole configuration in one file, as obo init writes it. Each other flag beats what the kit says."`
	Kit       string `name:"kit" placeholder:"JSON" help:"The kit itself: meant for the environment, since a command line can be seen by others."`
	KeyFile   string `name:"key-file" placeholder:"FILE" help:"Private identity key of this side, readable by its owner only."`
	Key       string `name:"key" placeholder:"JWK" help:"The identity key itself: meant for the environment."`
	TrustFile string `name:"trust-file" placeholder:"FILE" help:"Public identity keys of the other side. Read again when it changes."`
	Trust     string `name:"trust" placeholder:"JSON" help:"The trust file's content."`
	NATSSettings
	Hints Hints `name:"hints" default:"full" help:"Clear NATS headers for people with the nats CLI: full (id, method, path, status, traceparent), minimal (id, status) or none."`
}

// NATSSettings are the flags that say how to reach NATS.
type NATSSettings struct {
	NATS            string `name:"nats" placeholder:"URL" help:"NATS server: nats, tls, ws or wss, several with commas between; or a broker app: app:NAME, or https and its host."`
	NKeyFile        string `name:"nkey-file" placeholder:"FILE" help:"Seed of the NATS user, readable by its owner only."`
	NKey            string `name:"nkey" placeholder:"SEED" help:"The seed itself: meant for the environment."`
	CredsFile       string `name:"creds-file" placeholder:"FILE" help:"Credentials of a NATS user with a JWT, instead of the nkey."`
	Creds           string `name:"creds" placeholder:"CREDS" help:"The credentials themselves: meant for the environment."`
	SubjectPrefix   string `name:"subject-prefix" placeholder:"PREFIX" help:"Put before obo.v1 in every subject, so that several environments share a server."`
	NATSCAFile      string `name:"nats-ca-file" placeholder:"FILE" help:"Certificate authority of the NATS server, PEM. Default: the system's."`
	NATSCA          string `name:"nats-ca" placeholder:"PEM" help:"The authority's certificate itself: meant for the environment."`
	NATSCertFile    string `name:"nats-cert-file" placeholder:"FILE" help:"Client certificate for mutual TLS with NATS, PEM."`
	NATSCert        string `name:"nats-cert" placeholder:"PEM" help:"The certificate itself: meant for the environment."`
	NATSCertKeyFile string `name:"nats-cert-key-file" placeholder:"FILE" help:"Private key of that certificate, PEM, readable by its owner only."`
	NATSCertKey     string `name:"nats-cert-key" placeholder:"PEM" help:"The private key itself: meant for the environment."`
	NATSTLSFirst    bool   `name:"nats-tls-first" help:"Begin with the TLS handshake, as a server with handshake_first expects."`

	NATSWorkspace    string `name:"nats-workspace" env:"OBO_NATS_WORKSPACE,DATABRICKS_HOST" placeholder:"URL" help:"Workspace of a broker app."`
	NATSClientID     string `name:"nats-client-id" env:"OBO_NATS_CLIENT_ID,DATABRICKS_CLIENT_ID" placeholder:"ID" help:"Service principal that opens the broker app's front proxy; it does nothing else."`
	NATSClientSecret string `name:"nats-client-secret" env:"OBO_NATS_CLIENT_SECRET,DATABRICKS_CLIENT_SECRET" placeholder:"SECRET" help:"Its OAuth secret: meant for the environment."`
}

// LogSettings are the flags of a command's log.
type LogSettings struct {
	LogFormat string     `name:"log-format" enum:"text,json" default:"text" help:"Form of the log on standard error, one line an event: text or json."`
	LogLevel  slog.Level `name:"log-level" default:"info" help:"Least level that is logged: debug, info, warn or error."`
}

// Side is one side's configuration, checked.
type Side struct {
	Name     string // the kit's, empty without one
	Identity Identity
	Trust    *Trust
	Connect  ConnectConfig
	Prefix   string
	Hints    Hints

	watched []watchedFile
}

// Load reads what the settings name. It reports all faults at once, each on a line of its own with the flag, the
// variable and what to do, and none with a secret.
func (s *Settings) Load(role Role) (*Side, error) {
	l := &loader{role: role}
	if s.empty() {
		return &Side{Hints: s.Hints}, errors.New(flagName("kit") + ": no configuration is given: set OBO_KIT to this side's kit (on Databricks Apps from a secret, with valueFrom in app.yaml), or name its file with --kit-file; obo init makes it")
	}
	l.loadKit(s.KitFile, s.Kit)
	side := &Side{Identity: l.identity(s.KeyFile, s.Key), Hints: s.Hints}
	l.trust(s.TrustFile, s.Trust, side)
	if l.kit != nil {
		side.Name = l.kit.Name
	}
	side.watched = s.watch(role, side.Name)
	side.Connect, side.Prefix = s.connect(l)
	if err := s.Hints.Validate(); err != nil {
		l.fault("hints", "%v", err)
	}
	return side, errors.Join(l.faults...)
}

// watch lists the files that may change while the command runs. What would be refused at the start is refused then, too, and
// so is a kit that is not name's.
func (s *Settings) watch(role Role, name string) (files []watchedFile) {
	ownKey, ownTrust := s.KeyFile != "" || s.Key != "", s.TrustFile != "" || s.Trust != ""
	if s.TrustFile != "" && s.Trust == "" {
		files = append(files, watchedFile{"trust file", s.TrustFile, os.ReadFile, func(data []byte) (c content, err error) {
			if c.trust, err = ParseTrust(data); err == nil {
				err = role.checkPartners(c.trust)
			}
			return c, err
		}, false})
	}
	if s.KeyFile != "" && s.Key == "" {
		files = append(files, watchedFile{"key file", s.KeyFile, ReadSecretFile, func(data []byte) (c content, err error) {
			c.identity, err = ParseIdentity(data)
			return c, err
		}, true})
	}
	if s.KitFile == "" || ownKey && ownTrust {
		return files
	}
	return append(files, watchedFile{"kit", s.KitFile, ReadSecretFile, func(data []byte) (c content, err error) {
		kit, err := ParseKit(data, role)
		if err != nil {
			return c, err
		}
		if kit.Name != name {
			return c, fmt.Errorf("it is the kit of %s %s, this side runs with that of %s", role, kit.Name, name)
		}
		if !ownKey {
			c.identity, _ = kit.Key.Identity() // ParseKit has checked both
		}
		if !ownTrust {
			c.trust, _ = kit.Trust.Trust()
			if err := role.checkPartners(c.trust); err != nil {
				return c, err
			}
		}
		if s.NKeyFile+s.NKey+s.CredsFile+s.Creds == "" {
			c.nkey = kit.NKey
		}
		return c, nil
	}, !ownKey})
}

// empty: most likely a secret that is missing, so that it is one fault and not one for each flag.
func (s *Settings) empty() bool {
	return s.KitFile+s.Kit+s.KeyFile+s.Key+s.TrustFile+s.Trust+s.NATS+s.NKeyFile+s.NKey+s.CredsFile+s.Creds == ""
}

// Load is Settings.Load for a command that is no side of its own: without a kit.
func (s *NATSSettings) Load() (ConnectConfig, Subjects, error) {
	l := &loader{}
	c, prefix := s.connect(l)
	subjects, _ := NewSubjects(prefix) // a fault is among l's
	return c, subjects, errors.Join(l.faults...)
}

// loader collects faults while it reads.
type loader struct {
	role     Role
	kit      *Kit
	kitGiven bool   // perhaps a faulty one, so that nothing is missing because of it
	kitFrom  string // the flag of the kit
	faults   []error
}

// fault notes a fault of a flag, on one line.
func (l *loader) fault(flag, format string, args ...any) {
	text := flagName(flag) + ": " + fmt.Errorf(format, args...).Error()
	l.faults = append(l.faults, errors.New(strings.ReplaceAll(text, "\n", "; ")))
}

// flagName is "--key-file (OBO_KEY_FILE)".
func flagName(flag string) string {
	return "--" + flag + " (OBO_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) + ")"
}

// twin reads a file or takes the content that was given instead. from is the flag that it came from, empty if none was
// given or it could not be read.
func (l *loader) twin(flag, file, content string, read func(string) ([]byte, error)) (data []byte, from string) {
	switch {
	case file != "" && content != "":
		l.fault(flag, "the content is given, and a file too with %s: unset one of them", flagName(flag+"-file"))
	case content != "":
		return []byte(content), flag
	case file != "":
		data, err := read(file)
		if err != nil {
			l.fault(flag+"-file", "%w%s", err, hintOf(err))
			return nil, ""
		}
		return data, flag + "-file"
	}
	return nil, ""
}

// hintOf is what to do about a file that cannot be read.
func hintOf(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return ": correct the path, or make the file with obo init"
	case errors.Is(err, os.ErrPermission):
		return ": let the user that runs this read it"
	}
	return ""
}

func (l *loader) loadKit(file, content string) {
	l.kitGiven = file != "" || content != ""
	data, from := l.twin("kit", file, content, ReadSecretFile)
	if from == "" {
		return
	}
	kit, err := ParseKit(data, l.role)
	if err != nil {
		l.fault(from, "%w", err)
		return
	}
	l.kit, l.kitFrom = kit, from
}

// missing notes that nothing says what is needed.
func (l *loader) missing(flag, what string) {
	if !l.kitGiven {
		l.fault(flag+"-file", "no %s: name the file, or set OBO_%s to its content, or OBO_KIT to a whole kit (obo init makes them)", what, strings.ToUpper(flag))
	}
}

func (l *loader) identity(file, content string) (id Identity) {
	data, from := l.twin("key", file, content, ReadSecretFile)
	var err error
	switch {
	case from != "":
		if id, err = ParseIdentity(data); err != nil {
			l.fault(from, "%w", err)
		}
	case file != "" || content != "":
	case l.kit != nil:
		id, _ = l.kit.Key.Identity() // ParseKit has checked it
	default:
		l.missing("key", "identity key")
	}
	return id
}

func (l *loader) trust(file, content string, side *Side) {
	data, from := l.twin("trust", file, content, os.ReadFile)
	var err error
	switch {
	case from != "":
		if side.Trust, err = ParseTrust(data); err != nil {
			l.fault(from, "%w", err)
		}
		l.checkPartners(from, side.Trust)
	case file != "" || content != "":
	case l.kit != nil:
		side.Trust, _ = l.kit.Trust.Trust() // ParseKit has checked it
		l.checkPartners(l.kitFrom, side.Trust)
	default:
		l.missing("trust", "trust file")
	}
}

// checkPartners notes where there is nobody to talk to.
func (l *loader) checkPartners(from string, t *Trust) {
	if t == nil {
		return
	}
	if err := l.role.checkPartners(t); err != nil {
		l.fault(from, "%w", err)
	}
}

// checkPartners wants somebody for this side to talk to.
func (r Role) checkPartners(t *Trust) error {
	switch {
	case r == RoleService && len(t.Names(RoleApp)) == 0:
		return errors.New("the trust names no app, so nobody could call this service: add the app's public key, or see whether it is the other side's file")
	case r == RoleApp && len(t.Names(RoleService)) == 0:
		return errors.New("the trust names no service, so no worker could be believed: add the service's public key, or see whether it is the other side's file")
	}
	return nil
}

// connect reads and checks everything about NATS.
func (s *NATSSettings) connect(l *loader) (ConnectConfig, string) {
	c := ConnectConfig{URL: s.NATS, CredsFile: s.CredsFile, Creds: s.Creds, TLSFirst: s.NATSTLSFirst}
	prefix := s.SubjectPrefix
	if l.kit != nil {
		c.URL = cmp.Or(c.URL, l.kit.NATS)
		prefix = cmp.Or(prefix, l.kit.SubjectPrefix)
	}
	if brokerapp.Is(c.URL) {
		c.Principal = brokerapp.Principal{Workspace: s.NATSWorkspace, ClientID: s.NATSClientID, Secret: s.NATSClientSecret}
		if err := (ConnectConfig{URL: c.URL, Principal: c.Principal, CertFile: s.NATSCertFile, TLSFirst: s.NATSTLSFirst}).validateApp(); err != nil {
			l.fault("nats", "%w", err)
		}
	} else if c.URL != "" {
		if err := (ConnectConfig{URL: c.URL}).Validate(); err != nil {
			l.fault("nats", "%w: want for example nats://127.0.0.1:4222", err)
		}
	} else if !l.kitGiven || l.kit != nil {
		l.fault("nats", "no NATS server: give its URL, for example nats://127.0.0.1:4222")
	}
	if _, err := NewSubjects(prefix); err != nil {
		l.fault("subject-prefix", "%w", err)
	}
	c.NKeySeed = s.user(l)
	s.tls(l, &c)
	return c, prefix
}

// user reads the seed of the NATS user. None at all is no fault: some servers want a certificate or a password instead.
func (s *NATSSettings) user(l *loader) string {
	seed, from := l.twin("nkey", s.NKeyFile, s.NKey, ReadSecretFile)
	given := s.NKeyFile != "" || s.NKey != ""
	if s.CredsFile+s.Creds != "" {
		creds, credsFrom := l.twin("creds", s.CredsFile, s.Creds, ReadSecretFile)
		if credsFrom != "" && !validCreds(creds) {
			l.fault(credsFrom, "these are not credentials of a NATS user: want the file with the user's JWT and seed, as nsc generate creds writes it")
		}
		if given {
			l.fault("creds", "an nkey is given too with %s or %s: unset one of them", flagName("nkey-file"), flagName("nkey"))
		}
		return ""
	}
	if !given && l.kit != nil {
		seed, from = []byte(l.kit.NKey), l.kitFrom
	}
	trimmed := strings.TrimSpace(string(seed))
	if from == "" || !given && trimmed == "" { // a kit without a seed
		return ""
	}
	if !validSeed(trimmed) {
		l.fault(from, "the nkey is not the seed of a NATS user (SU…, as obo init writes it)")
		return ""
	}
	return trimmed
}

func validSeed(seed string) bool {
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return false
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	return err == nil && nkeys.IsValidPublicUserKey(public)
}

// validCreds wants a JWT and the seed of a user.
func validCreds(creds []byte) bool {
	if token, err := nkeys.ParseDecoratedJWT(creds); err != nil || strings.Count(token, ".") != 2 {
		return false
	}
	pair, err := nkeys.ParseDecoratedUserNKey(creds)
	if err != nil {
		return false
	}
	pair.Wipe()
	return true
}

func (s *NATSSettings) tls(l *loader, c *ConnectConfig) {
	c.CAFile, c.CA, c.CertFile, c.Cert, c.KeyFile, c.Key = s.NATSCAFile, s.NATSCA, s.NATSCertFile, s.NATSCert, s.NATSCertKeyFile, s.NATSCertKey
	if ca, from := l.twin("nats-ca", c.CAFile, c.CA, os.ReadFile); from != "" && !x509.NewCertPool().AppendCertsFromPEM(ca) {
		l.fault(from, "%s holds no certificate in PEM", cmp.Or(c.CAFile, "it"))
	}
	cert, certFrom := l.twin("nats-cert", c.CertFile, c.Cert, os.ReadFile)
	key, keyFrom := l.twin("nats-cert-key", c.KeyFile, c.Key, ReadSecretFile)
	switch {
	case certFrom != "" && c.KeyFile+c.Key == "":
		l.fault("nats-cert-key-file", "the private key of %s is missing", flagName(certFrom))
	case keyFrom != "" && c.CertFile+c.Cert == "":
		l.fault("nats-cert-file", "the certificate of %s is missing", flagName(keyFrom))
	case certFrom != "" && keyFrom != "":
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			l.fault(certFrom, "%w", err)
		}
	}
}

// Logger returns the log.
func (s LogSettings) Logger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: s.LogLevel}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// Report writes the reasons why a command ends, one a line: those of an errors.Join, say.
func (s LogSettings) Report(w io.Writer, command string, err error) {
	for fault := range strings.SplitSeq(err.Error(), "\n") {
		if s.LogFormat == "json" {
			s.Logger(w).Error(command + ": " + fault)
			continue
		}
		fmt.Fprintln(w, command+": ERROR:", fault)
	}
}
