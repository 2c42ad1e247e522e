package relaytest_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

// The worker's micro service answers to the inspector's inbox and to nothing else: it lends nobody a subject.
func TestMicroAnswersTheInspectorOnly(t *testing.T) {
	n, _ := start(t)
	w, _ := n.Worker(says("hello"), nil)
	waitForWorkers(t, n, 1)
	inspect := newInspector(t, n)
	inspect.stats(w.Instance())
	root := n.Tap(n.Root, ">")
	asked := 0
	for _, reply := range []string{"", "_INBOX.other.x", "_INBOX.inspector", "_INBOX.inspectors.x", "obo.v1.announce.middleware", "obo.v1.rep.ui.a.b", "$JS.API.STREAM.PURGE.S"} {
		for _, subject := range []string{"$SRV.PING", "$SRV.INFO.obo-middleware", "$SRV.STATS.obo-middleware." + w.Instance()} {
			root.Send(&nats.Msg{Subject: subject, Reply: reply})
			asked++
		}
	}
	inspect.stats(w.Instance()) // is answered after all of them
	root.Wait("_INBOX.inspector.", 1)
	for _, m := range root.All() {
		if m.Subject == "_INBOX.inspector" || m.Subject == "_INBOX.other.x" || m.Subject == "_INBOX.inspectors.x" || m.Subject == "obo.v1.rep.ui.a.b" || m.Subject == "$JS.API.STREAM.PURGE.S" {
			t.Errorf("an answer on %s", m.Subject)
		}
		if m.Subject == "obo.v1.announce.middleware" && len(m.Data) > 0 && m.Data[0] == '{' {
			t.Errorf("a document on %s", m.Subject)
		}
	}
	if seen := len(root.On("$SRV.")); seen < asked {
		t.Errorf("%d of %d questions were seen", seen, asked)
	}
}

// Every verb answers for all services, for this one, and for this instance.
func TestMicroSubjects(t *testing.T) {
	n, _ := start(t)
	w, _ := n.Worker(says("hello"), nil)
	waitForWorkers(t, n, 1)
	inspect := newInspector(t, n)
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		for _, rest := range []string{"", ".obo-middleware", ".obo-middleware." + w.Instance()} {
			m, err := inspect.nc.Request("$SRV."+verb+rest, nil, relaytest.Patience)
			if err != nil || len(m.Data) == 0 {
				t.Errorf("%s%s: %v", verb, rest, err)
			}
		}
	}
}
