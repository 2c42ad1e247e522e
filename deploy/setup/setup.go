package setup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/relay"
)

// Result is what a run made and found.
type Result struct {
	Config     Config // what the directory is set up for now, with its absolute path
	ServerConf string // path of nats-server.conf
	Sides      []*Side
	Inspector  string   // path of the inspector's seed
	System     string   // path of the system user's seed
	Auditor    string   // path of the auditor's seed; empty without Config.Audit
	Contexts   []string // paths of the nats CLI's contexts
}

// Side returns the files of an app or service, nil if there is none of that name.
func (r Result) Side(role relay.Role, name string) *Side {
	for _, s := range r.Sides {
		if s.Role == role && s.Name == name {
			return s
		}
	}
	return nil
}

// Init makes the files of a relay in cfg.Dir. Everything is checked before the first file is written, each file is written
// whole or not at all, and keys that are there are kept.
func Init(cfg Config) (Result, error) {
	return initialize(cfg, files{fill: (*os.File).Write})
}

func initialize(cfg Config, f files) (Result, error) {
	checked, err := cfg.prepare()
	if err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(checked.cfg.Dir, 0o700); err != nil {
		return Result{}, fmt.Errorf("setup: %w", err)
	}
	dir, err := lock(checked.cfg.Dir)
	if err != nil {
		return Result{}, err
	}
	defer dir.unlock()
	p, err := cfg.prepare() // again: another command may have been at work
	if err != nil {
		return Result{}, err
	}
	dir.sweep(p)
	if err := p.write(f); err != nil {
		return Result{}, err
	}
	cfg = p.cfg
	return Result{
		Config: cfg, ServerConf: cfg.path("nats-server.conf"), Sides: p.sides,
		Inspector: cfg.InspectorSeed(), System: cfg.path("system", "nats.nk"), Auditor: cfg.auditorSeed(), Contexts: p.contexts,
	}, nil
}

// plan is everything that will be written, in memory.
type plan struct {
	cfg               Config
	sides             []*Side
	inspector, system user
	auditor           user // with Config.Audit
	contexts          []string
}

// prepare is the plan of c on top of what the directory remembers, of which everything is checked.
func (c Config) prepare() (*plan, error) {
	c, err := c.merged()
	if err != nil {
		return nil, err
	}
	p, err := c.plan()
	if err != nil {
		return nil, err
	}
	_, err = p.conf()
	return p, err
}

// plan checks everything and reads the keys.
func (c Config) plan() (*plan, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	p := &plan{cfg: c}
	return p, p.load()
}

// write writes everything that follows from the keys.
func (p *plan) write(f files) error {
	conf, err := p.conf()
	if err != nil {
		return err
	}
	return p.save(f, conf)
}

// conf is the server's configuration, if the nats CLI's can be written too.
func (p *plan) conf() (string, error) {
	conf, err := p.natsconf().ServerConf()
	return conf, errors.Join(err, p.cli().Validate())
}

func (p *plan) load() error {
	var faults []error
	taken := map[string]bool{}
	add := func(role relay.Role, name string) {
		s, err := p.cfg.loadSide(role, name, taken)
		p.sides, faults = append(p.sides, s), append(faults, err)
	}
	for _, name := range p.cfg.Services {
		add(relay.RoleService, name)
	}
	for _, a := range p.cfg.Apps {
		add(relay.RoleApp, a.Name)
	}
	var err error
	p.inspector, err = loadUser(p.cfg.InspectorSeed())
	faults = append(faults, err)
	if p.cfg.Audit {
		p.auditor, err = loadUser(p.cfg.auditorSeed())
		faults = append(faults, err)
	}
	p.system, err = loadUser(p.cfg.path("system", "nats.nk"))
	return errors.Join(append(faults, err)...)
}

func (p *plan) side(role relay.Role, name string) *Side {
	return Result{Sides: p.sides}.Side(role, name)
}

func (p *plan) natsconf() natsconf.Config {
	c := natsconf.Config{
		Listen: p.cfg.Listen, SubjectPrefix: p.cfg.SubjectPrefix,
		InspectorNKeys: []string{p.inspector.public}, SystemNKeys: []string{p.system.public},
	}
	if p.cfg.Audit {
		c.AuditorNKeys, c.StoreDir = []string{p.auditor.public}, p.cfg.path(storeDir)
	}
	var tls *natsconf.TLS
	if p.cfg.TLSCertFile != "" || p.cfg.TLSKeyFile != "" {
		tls = &natsconf.TLS{CertFile: p.cfg.TLSCertFile, KeyFile: p.cfg.TLSKeyFile, ClientCAFile: p.cfg.ClientCAFile}
	}
	c.TLS = tls
	if p.cfg.WebSocket != "" {
		c.WebSocket = &natsconf.WebSocket{Listen: p.cfg.WebSocket, TLS: tls}
	}
	for _, a := range p.cfg.Apps {
		c.Apps = append(c.Apps, natsconf.App{Name: a.Name, NKeys: p.side(relay.RoleApp, a.Name).users(), Calls: p.cfg.Callees(a)})
	}
	for _, name := range p.cfg.Services {
		c.Services = append(c.Services, natsconf.Service{Name: name, NKeys: p.side(relay.RoleService, name).users(), Apps: p.cfg.callers(name)})
	}
	return c
}

// trust is what a side believes: the public keys of those it calls or is called by.
func (p *plan) trust(s *Side) relay.TrustFile {
	keys := func(role relay.Role, names []string) map[string]relay.JWKS {
		out := map[string]relay.JWKS{}
		for _, name := range names {
			var set relay.JWKS
			for _, id := range p.side(role, name).identities() {
				set.Keys = append(set.Keys, id.Public())
			}
			out[name] = set
		}
		return out
	}
	f := relay.TrustFile{Type: relay.TrustTypeName}
	if s.Role == relay.RoleService {
		f.Apps = keys(relay.RoleApp, p.cfg.callers(s.Name))
		return f
	}
	for _, a := range p.cfg.Apps {
		if a.Name == s.Name {
			f.Services = keys(relay.RoleService, p.cfg.Callees(a))
		}
	}
	return f
}

// save writes the identity keys first, so that whoever is in the record has one, in a file that tells whose it is. Then the
// record, so that the next run completes one that broke off, and what can be made again.
func (p *plan) save(f files, conf string) error {
	if err := p.saveKeys(f); err != nil {
		return err
	}
	if err := p.saveRecord(f); err != nil {
		return err
	}
	return p.saveRest(f, conf)
}

func (p *plan) saveKeys(f files) error {
	for _, s := range p.sides {
		if err := s.saveKey(f); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) saveRecord(f files) error {
	return writeJSON(f.replace, p.cfg.path(recordFile), p.cfg, 0o600)
}

// saveRest writes all but identity keys and the record.
func (p *plan) saveRest(f files, conf string) error {
	for _, s := range p.sides {
		if err := s.save(f, p.cfg, p.trust(s)); err != nil {
			return err
		}
	}
	if err := p.inspector.save(f, p.cfg.InspectorSeed()); err != nil {
		return err
	}
	if err := p.system.save(f, p.cfg.path("system", "nats.nk")); err != nil {
		return err
	}
	if err := p.auditor.save(f, p.cfg.auditorSeed()); err != nil {
		return err
	}
	if err := f.replace(p.cfg.path("nats-server.conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	return p.saveContexts(f)
}

func (p *plan) cli() natsconf.CLI {
	return natsconf.CLI{
		URL:               p.cfg.CLIURL(),
		InspectorSeedFile: p.cfg.InspectorSeed(),
		SystemSeedFile:    p.cfg.path("system", "nats.nk"),
		AuditorSeedFile:   p.cfg.auditorSeed(),
		CAFile:            p.cfg.CAFile,
		TLSFirst:          p.cfg.TLSCertFile != "",
	}
}

// saveContexts has natsconf write the contexts beside, and puts them in place one by one.
func (p *plan) saveContexts(f files) error {
	beside, err := os.MkdirTemp(p.cfg.Dir, temporary+"*")
	if err != nil {
		return fmt.Errorf("setup: %s: %w", p.cfg.path("nats"), cause(err))
	}
	defer os.RemoveAll(beside)
	paths, err := p.cli().Write(beside)
	if err != nil {
		return err
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("setup: %w", err)
		}
		to := p.cfg.path("nats", "context", filepath.Base(path))
		if err := f.replace(to, content, 0o600); err != nil {
			return err
		}
		p.contexts = append(p.contexts, to)
	}
	return nil
}
