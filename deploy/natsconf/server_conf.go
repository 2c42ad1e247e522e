package natsconf

import (
	"fmt"

	"github.com/obo-relay/obo-relay/relay"
)

// ServerConf returns the text of the nats-server.conf. The same Config gives the same text. It reports every fault
// of the Config at once.
func (c Config) ServerConf() (string, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return "", err
	}
	root, err := relay.NewSubjects(c.SubjectPrefix)
	if err != nil {
		return "", fmt.Errorf("natsconf: %w", err)
	}
	var w writer
	w.comment("nats-server.conf of an obo relay. Generated: change the relay's setup and generate it again.")
	w.comment("It holds public keys only and is no secret. Replies are never open-ended (no allow_responses) and nobody")
	w.comment("comes in without a key (no no_auth_user): keep both out when editing.")
	w.blank()
	c.writeListeners(&w)
	c.writeLimits(&w)
	if c.StoreDir != "" {
		w.open("jetstream: {")
		w.line("store_dir: %s", quoted(c.StoreDir))
		if c.audit() {
			w.comment("A full stream refuses records; obo-worker says so.")
			w.line("max_file_store: %s", maxAudit)
		}
		w.close("}")
		w.blank()
	}
	c.writeAccounts(&w, subjects{root})
	return w.String(), nil
}

// maxAudit is what the stream may take of the disk: records of some hundred bytes, tens of millions of them.
const maxAudit = "10GB"

func (c Config) audit() bool { return len(c.AuditorNKeys) > 0 }

func (c Config) writeListeners(w *writer) {
	w.comment("Where NATS clients connect.")
	w.line("listen: %s", quoted(c.Listen))
	if c.TLS != nil {
		writeTLS(w, *c.TLS, true)
	}
	w.blank()
	if c.WebSocket == nil {
		return
	}
	w.comment("NATS over WebSocket, for networks that let only HTTPS out.")
	w.open("websocket: {")
	w.line("listen: %s", quoted(c.WebSocket.Listen))
	if c.WebSocket.TLS != nil {
		writeTLS(w, *c.WebSocket.TLS, false)
	} else {
		w.comment("TLS ends at the proxy in front; the sealing of a request does not.")
		w.line("no_tls: true")
	}
	w.comment("A browser names the page it acts for; only a page of this host may connect.")
	w.line("same_origin: true")
	w.comment("Sealed bytes do not compress.")
	w.line("compression: false")
	w.close("}")
	w.blank()
}

// quoted is a string as nats-server reads it. What would need an escape is refused before: it does not know those of Go.
func quoted(s string) string { return `"` + s + `"` }

func writeTLS(w *writer, t TLS, handshakeFirst bool) {
	w.open("tls: {")
	w.line("cert_file: %s", quoted(t.CertFile))
	w.line("key_file: %s", quoted(t.KeyFile))
	if t.ClientCAFile != "" {
		w.comment("Clients show a certificate of this authority, besides their key (nats --tlscert --tlskey).")
		w.line("ca_file: %s", quoted(t.ClientCAFile))
		w.line("verify: true")
	}
	if handshakeFirst {
		w.comment("No byte in clear, not even the server's INFO; a client needs the matching option (nats --tlsfirst).")
		w.line("handshake_first: true")
	}
	w.close("}")
}

func (c Config) writeLimits(w *writer) {
	w.comment("Limits. max_control_line and max_pending keep their defaults: 4 KB is far above the longest subject here,")
	w.comment("and 64 MB above the 32 MiB that the relay lets one connection have under way.")
	w.blank()
	w.comment("Frames are at most 64 KiB; the head of a request may be larger, with the sealed token and headers in it.")
	w.line("max_payload: 1MB")
	w.comment("Each process of an app or service holds one; the rest is room for reconnects and the nats CLI. A bound at")
	w.comment("all keeps a peer without a key from taking every file descriptor.")
	w.line("max_connections: %d", c.MaxConnections)
	w.comment("An app subscribes once for replies and once a service, a worker about a dozen times.")
	w.line("max_subscriptions: 1024")
	w.comment("Many proxies cut idle connections after a minute, and a peer that died without a word is found in the")
	w.comment("time of ping_max pings.")
	w.line(`ping_interval: "20s"`)
	w.line("ping_max: 2")
	w.comment("A peer that does not read for this long is cut off rather than slow the others down.")
	w.line(`write_deadline: "10s"`)
	w.blank()
}

func (c Config) writeAccounts(w *writer, s subjects) {
	w.open("accounts: {")
	w.comment("Everyone on the relay.")
	w.open("OBO: {")
	switch {
	case c.audit():
		w.comment("Room for the stream " + AuditStream + " and for those who look at it; nothing is kept in memory.")
		w.line("jetstream: {max_file: %s, max_mem: 0, max_streams: 1, max_consumers: 16}", maxAudit)
	case c.StoreDir != "":
		w.line("jetstream: enabled")
	}
	w.open("users: [")
	for _, a := range c.Apps {
		writeUsers(w, fmt.Sprintf("App %s: sends requests and receives its own replies.", a.Name), a.NKeys, a.permissions(s))
	}
	for _, v := range c.Services {
		writeUsers(w, fmt.Sprintf("Service %s: receives its requests and replies to its apps.", v.Name), v.NKeys, v.permissions(s, c.Apps, c.audit()))
	}
	writeUsers(w, "Inspector: looks on (nats --context obo-inspector); can neither send a request nor take one.", c.InspectorNKeys, inspectorPermissions(s, c.audit()))
	writeUsers(w, "Auditor: makes the stream "+AuditStream+" and reads it (nats --context obo-auditor); changes nothing in it.", c.AuditorNKeys, auditorPermissions())
	w.close("]")
	w.close("}")
	w.blank()
	w.comment("The server about itself. No message of the relay is seen from here.")
	w.open("SYS: {")
	w.open("users: [")
	writeUsers(w, "Operator: looks at servers and connections (nats --context obo-system); reloads and kicks nobody.", c.SystemNKeys, systemPermissions())
	w.close("]")
	w.close("}")
	w.close("}")
	w.blank()
	w.line("system_account: SYS")
}

func writeUsers(w *writer, about string, nkeys []string, p permissions) {
	for _, key := range nkeys {
		w.comment(about)
		w.open("{")
		w.line("nkey: %s", key)
		w.open("permissions: {")
		w.open("publish: {")
		w.rules("allow", p.publish)
		w.close("}")
		w.open("subscribe: {")
		w.rules("allow", p.subscribe)
		if len(p.denySubscribe) > 0 {
			w.rules("deny", p.denySubscribe)
		}
		w.close("}")
		w.close("}")
		w.close("}")
	}
}
