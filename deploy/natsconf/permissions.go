package natsconf

import (
	"slices"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
)

// Inbox prefixes of the users of the nats CLI. Nobody else has an inbox: the relay owns its reply subjects.
const (
	InspectorInbox = "_INBOX.inspector"
	SystemInbox    = "_INBOX.system"
	AuditorInbox   = "_INBOX.auditor"
)

// auditInbox and a service's name are its worker's AuditInbox. Package worker is not imported for it, with all that it links.
const auditInbox = "_INBOX.obo-audit"

// AuditStream is the one stream that the auditor may make and read.
const AuditStream = "AUDIT"

// AuditSubject is where a service publishes its audit records; service ">" stands for all. Like the relay's own subjects
// it begins with the prefix, if there is one.
func AuditSubject(prefix, service string) string {
	if prefix != "" {
		prefix += "."
	}
	return prefix + "obo.audit." + service
}

// rule is one line of an allow or deny list.
type rule struct {
	subject string
	why     string
}

// permissions of a user. Both allow lists are always there: an absent one would allow everything.
type permissions struct {
	publish       []rule
	subscribe     []rule
	denySubscribe []rule
}

// subjects are those of package relay with wildcards for instance, inbox and request id.
type subjects struct{ relay.Subjects }

func (s subjects) req(service, app string) string { return s.Request(service, "*", app) }
func (s subjects) ctl(service, app string) string {
	return s.Root() + ".ctl." + service + ".*." + app + ".*"
}
func (s subjects) audit(service string) string {
	return AuditSubject(strings.TrimSuffix(strings.TrimSuffix(s.Root(), "obo.v1"), "."), service)
}
func (s subjects) rep(app string) string { return s.Root() + ".rep." + app + ".*.*" }

// worker is the one subscription of a worker process, whatever its instance.
func (s subjects) worker(service string) string { return s.Worker(service, "*") }

func (a App) permissions(s subjects) permissions {
	var p permissions
	for _, service := range a.Calls {
		p.publish = append(p.publish,
			rule{s.Discover(service), "ask the workers of " + service + " to announce themselves; they answer on announce"},
			rule{s.req(service, a.Name), "begin a request at one instance of " + service},
			rule{s.ctl(service, a.Name), "go on with that request"})
		p.subscribe = append(p.subscribe,
			rule{s.Announce(service), "which instances of " + service + " are ready, and their keys"})
	}
	p.subscribe = append(p.subscribe,
		rule{s.rep(a.Name), "replies to this app: its inbox, then the request id"})
	return p
}

func (v Service) permissions(s subjects, apps []App, audit bool) permissions {
	micro := "obo-" + v.Name
	p := permissions{
		publish: []rule{{s.Announce(v.Name), "say which instance is ready, and its key"}},
		subscribe: []rule{
			{s.worker(v.Name), "requests for an instance of this service (req and ctl in one subscription keeps their order)"},
			{s.Discover(v.Name), "be asked to announce"},
		},
	}
	for _, app := range v.Apps {
		p.publish = append(p.publish, rule{s.rep(app), "reply to " + app})
	}
	p.publish = append(p.publish, rule{InspectorInbox + ".>", "answer nats micro ping, info and stats, to the inspector alone"})
	for _, verb := range microVerbs() {
		p.subscribe = append(p.subscribe,
			rule{"$SRV." + verb, "nats micro: every service"},
			rule{"$SRV." + verb + "." + micro, "nats micro: this service"},
			rule{"$SRV." + verb + "." + micro + ".*", "nats micro: one instance"})
	}
	if audit {
		p.publish = append(p.publish, rule{s.audit(v.Name), "keep an audit record in the stream " + AuditStream})
		p.subscribe = append(p.subscribe, rule{auditInbox + "." + v.Name + ".>", "the stream's confirmations"})
	}
	// The worker's wildcard also covers the replies to an app of the same name. A deny that overlaps a subscription
	// is looked up at every delivery, so it is written only where there is such an app.
	if slices.ContainsFunc(apps, func(a App) bool { return a.Name == v.Name }) {
		p.denySubscribe = []rule{{s.Root() + ".rep.>", "an app has this service's name: its replies are not this service's"}}
	}
	return p
}

func inspectorPermissions(s subjects, audit bool) permissions {
	p := permissions{
		subscribe:     []rule{{">", "see every message of this account; the person's data in it is sealed"}},
		denySubscribe: []rule{{"> *", "but join no queue group: a member would take messages away from their receiver"}},
	}
	for _, verb := range microVerbs() {
		p.publish = append(p.publish,
			rule{"$SRV." + verb, "nats micro, every service"},
			rule{"$SRV." + verb + ".>", "nats micro, one service or instance"})
	}
	p.publish = append(p.publish, rule{s.Discover("*"), "ask workers to announce themselves"})
	// No MSG.GET and no DIRECT.GET: with a reply subject of the caller's choice they replay a stored message there.
	for _, api := range []string{"INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.*", "CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*"} {
		p.publish = append(p.publish, rule{"$JS.API." + api, "nats stream and nats consumer, listing only"})
	}
	if audit {
		p.denySubscribe = append(p.denySubscribe,
			rule{s.audit(">"), "audit records are not sealed: they are for the auditor"},
			rule{AuditorInbox + ".>", "the same records, as the auditor reads them"})
	}
	return p
}

// auditorPermissions are what nats stream add, ls, info, get and view ask for, of one stream. It can be made but not
// changed, purged or deleted: STREAM.UPDATE, PURGE, DELETE and MSG.DELETE are left out.
//
// A subject says which stream, not what is in the request. So the auditor, who makes the stream, decides what it stores,
// and where the server itself delivers a reply, a consumer's messages, or those that a stream republishes.
func auditorPermissions() permissions {
	p := permissions{subscribe: []rule{{AuditorInbox + ".>", "answers and records"}}}
	for _, r := range []rule{
		{"INFO", "whether there is JetStream"},
		{"STREAM.LIST", "nats stream ls"},
		{"STREAM.CREATE." + AuditStream, "nats stream add"},
		{"STREAM.INFO." + AuditStream, "nats stream info; get and view begin with it"},
		{"STREAM.MSG.GET." + AuditStream, "nats stream get"},
		{"CONSUMER.CREATE." + AuditStream + ".*.>", "nats stream view: a consumer for one look, with the subjects to look at"},
		{"CONSUMER.MSG.NEXT." + AuditStream + ".*", "nats stream view: the next page"},
		{"CONSUMER.DELETE." + AuditStream + ".*", "nats stream view: the end of the look"},
	} {
		p.publish = append(p.publish, rule{"$JS.API." + r.subject, r.why})
	}
	p.publish = append(p.publish, rule{"$JS.ACK." + AuditStream + ".>", "nats stream view: a record was shown"})
	return p
}

// systemPermissions let the nats CLI report on servers and connections. RELOAD, KICK, LDM and PROFILEZ are left out:
// whoever may do those has the broker's own shell.
func systemPermissions() permissions {
	p := permissions{
		publish: []rule{{"$SYS.REQ.SERVER.PING", "nats server list and ping"}},
		subscribe: []rule{
			{SystemInbox + ".>", "answers"},
			{"$SYS.ACCOUNT.>", "nats server watch, nats events: who connects and leaves"},
			{"$SYS.SERVER.>", "the same of servers"},
		},
	}
	for _, z := range []string{"IDZ", "STATSZ", "VARZ", "CONNZ", "SUBSZ", "ACCOUNTZ", "JSZ", "HEALTHZ", "ROUTEZ", "GATEWAYZ", "LEAFZ"} {
		p.publish = append(p.publish, rule{"$SYS.REQ.SERVER.*." + z, "nats server report and info (* is PING or a server id)"})
	}
	for _, z := range []string{"INFO", "STATZ", "CONNZ", "SUBSZ", "CONNS", "JSZ"} {
		p.publish = append(p.publish, rule{"$SYS.REQ.ACCOUNT.*." + z, "the same of one account"})
	}
	return p
}

// microVerbs are the verbs of the NATS micro protocol (NATS ADR-32).
func microVerbs() []string { return []string{"PING", "INFO", "STATS"} }
