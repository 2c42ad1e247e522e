package natsconf

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Names of the nats CLI contexts that [CLI.Write] writes.
const (
	InspectorContext = "obo-inspector"
	SystemContext    = "obo-system"
	AuditorContext   = "obo-auditor"
)

// CLI describes the contexts of the nats CLI.
type CLI struct {
	// URL is the server's, for example "nats://127.0.0.1:4222".
	URL string
	// InspectorSeedFile and SystemSeedFile are absolute paths of nkey seeds. The CLI expands $NAME and a leading ~ in
	// paths, so neither may be in them.
	InspectorSeedFile string
	SystemSeedFile    string
	// AuditorSeedFile is a path like them. Defaults to no context for the auditor.
	AuditorSeedFile string
	// CAFile is an absolute path of the CA of the server's certificate. Defaults to the system's.
	CAFile string
	// TLSFirst begins with the TLS handshake, as a server with [Config.TLS] expects.
	TLSFirst bool
}

// cliContext is a context file as natscontext of github.com/nats-io/jsm.go v0.5.1 reads it.
type cliContext struct {
	Description string `json:"description"`
	URL         string `json:"url"`
	NKey        string `json:"nkey"`
	CA          string `json:"ca,omitempty"`
	InboxPrefix string `json:"inbox_prefix"`
	TLSFirst    bool   `json:"tls_first,omitempty"`
}

// Write writes the contexts to <dir>/nats/context/<name>.json and returns the paths. They are used as
//
//	XDG_CONFIG_HOME=<dir> nats --context obo-inspector sub 'obo.v1.>'
func (c CLI) Write(dir string) ([]string, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	folder := filepath.Join(dir, "nats", "context")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("natsconf: nats CLI contexts: %w", err)
	}
	type file struct {
		name    string
		content cliContext
	}
	files := []file{
		{InspectorContext, c.context("obo relay: look at messages and micro services", c.InspectorSeedFile, InspectorInbox)},
		{SystemContext, c.context("obo relay: look at servers and connections", c.SystemSeedFile, SystemInbox)},
	}
	if c.AuditorSeedFile != "" {
		files = append(files, file{AuditorContext, c.context("obo relay: read the audit records", c.AuditorSeedFile, AuditorInbox)})
	}
	var paths []string
	for _, x := range files {
		content, err := json.MarshalIndent(x.content, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("natsconf: nats CLI context %s: %w", x.name, err)
		}
		path := filepath.Join(folder, x.name+".json")
		if err := os.WriteFile(path, append(content, '\n'), 0o600); err != nil {
			return nil, fmt.Errorf("natsconf: nats CLI context %s: %w", x.name, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (c CLI) context(description, seedFile, inbox string) cliContext {
	return cliContext{Description: description, URL: c.URL, NKey: seedFile, CA: c.CAFile, InboxPrefix: inbox, TLSFirst: c.TLSFirst}
}

// Validate reports every fault at once.
func (c CLI) Validate() error {
	var list []error
	if c.URL == "" {
		list = append(list, errors.New("natsconf: nats CLI contexts: URL is missing"))
	}
	for _, f := range []struct {
		field, path string
		optional    bool
	}{
		{"InspectorSeedFile", c.InspectorSeedFile, false},
		{"SystemSeedFile", c.SystemSeedFile, false},
		{"AuditorSeedFile", c.AuditorSeedFile, true},
		{"CAFile", c.CAFile, true},
	} {
		if f.path == "" && f.optional {
			continue
		}
		if !filepath.IsAbs(f.path) || strings.Contains(f.path, "$") {
			list = append(list, fmt.Errorf("natsconf: nats CLI contexts: %s %q: want an absolute path without $, which the CLI would expand", f.field, f.path))
		}
	}
	return errors.Join(list...)
}
