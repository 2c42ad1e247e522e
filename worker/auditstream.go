package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// AuditStreamConfig configures an AuditStream.
type AuditStreamConfig struct {
	NATS    relay.ConnectConfig
	Subject string       // a stream must store it. Required.
	Service string       // name of the service. Required.
	Prefix  string       // of the relay's own subjects, which Subject must not be one of
	Log     *slog.Logger // Defaults to slog.Default()
}

// AuditStream publishes audit records to a JetStream stream, which nats stream view shows. The stream is the operator's
// to make: nats stream add AUDIT --subjects SUBJECT. A record counts when the stream has confirmed it.
//
// The records are not sealed: the broker's operator sees people's names and the paths they used, and may drop or change
// records. It has a connection of its own, whose user needs these permissions and no others:
//
//	publish    SUBJECT
//	subscribe  _INBOX.obo-audit.<service>.>
type AuditStream struct {
	subject string
	nc      *relay.Conn
	inbox   string // reply subjects are inbox.N
	denied  atomic.Pointer[string]
	next    atomic.Uint64
	heard   atomic.Uint64 // answers
	silent  atomic.Bool   // the last record was not confirmed in time
	probing atomic.Bool   // one record finds out whether that has changed; the others do not wait

	mu      sync.Mutex
	waiting map[string]chan *nats.Msg
}

// AuditInbox is where a service's audit connection hears what a stream has confirmed: part of a subject.
func AuditInbox(service string) string { return "_INBOX.obo-audit." + service }

var auditSubject = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// NewAuditStream connects in the background; a record that is to be kept before that is lost.
func NewAuditStream(c AuditStreamConfig) (*AuditStream, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	a := &AuditStream{subject: c.Subject, inbox: AuditInbox(c.Service) + "." + relay.NewInstance(), waiting: map[string]chan *nats.Msg{}}
	c.NATS.Name, c.NATS.Log = "obo-worker audit "+c.Service, c.Log
	if c.NATS.Log == nil {
		c.NATS.Log = slog.Default()
	}
	c.NATS.OnDenied = func(err error) {
		text := err.Error()
		a.denied.Store(&text)
	}
	nc, err := relay.Keep(c.NATS)
	if err != nil {
		return nil, err
	}
	if err := nc.Subscribe(a.inbox+".*", a.confirmed, 0, 0); err != nil {
		nc.Close()
		return nil, err
	}
	a.nc = nc
	return a, nil
}

func (c AuditStreamConfig) validate() error {
	var faults []error
	if !auditSubject.MatchString(c.Subject) || len(c.Subject) > 128 {
		faults = append(faults, fmt.Errorf("audit stream: subject %q: want a NATS subject of A-Z a-z 0-9 _ - in tokens joined by dots, for example audit.middleware", c.Subject))
	}
	if subjects, err := relay.NewSubjects(c.Prefix); err != nil {
		faults = append(faults, err)
	} else if root := subjects.Root(); c.Subject == root || strings.HasPrefix(c.Subject, root+".") || strings.HasPrefix(c.Subject, "_INBOX.") {
		faults = append(faults, fmt.Errorf("audit stream: the subject %s is one of the relay's own: choose another", c.Subject))
	}
	if !relay.ValidName(c.Service) {
		faults = append(faults, fmt.Errorf("audit stream: service %q is not a name", c.Service))
	}
	return errors.Join(faults...)
}

// Close ends the connection. Later records fail.
func (a *AuditStream) Close() { a.nc.Close() }

// Audit publishes a record and waits until the stream has confirmed it.
func (a *AuditStream) Audit(ctx context.Context, r *AuditRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if a.silent.Load() {
		if !a.probing.CompareAndSwap(false, true) {
			return a.unconfirmed()
		}
		defer a.probing.Store(false)
	}
	reply := fmt.Sprintf("%s.%d", a.inbox, a.next.Add(1))
	answer := make(chan *nats.Msg, 1)
	a.mu.Lock()
	a.waiting[reply] = answer
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waiting, reply)
		a.mu.Unlock()
	}()
	// No Nats-Msg-Id: nothing here sends a record twice, and an app, which chooses its requests' ids, could have the stream
	// drop one as a duplicate.
	header := nats.Header{"Content-Type": {"application/json"}}
	heard := a.heard.Load()
	if err := a.nc.NATS().PublishMsg(&nats.Msg{Subject: a.subject, Reply: reply, Header: header, Data: data}); err != nil {
		return fmt.Errorf("audit stream, subject %s: not sent: %w", a.subject, err)
	}
	select {
	case m := <-answer:
		a.heard.Add(1)
		a.silent.Store(false)
		a.denied.Store(nil)
		return a.stored(m)
	case <-ctx.Done():
		if a.heard.Load() == heard { // else it has answered others since
			a.silent.Store(true)
		}
		return a.unconfirmed()
	}
}

func (a *AuditStream) unconfirmed() error {
	why := "is there a stream for it, and may this user publish there? nats stream ls --subject " + a.subject
	if denied := a.denied.Load(); denied != nil {
		why = *denied
	}
	return fmt.Errorf("audit stream, subject %s: no confirmation: %s", a.subject, why)
}

func (a *AuditStream) confirmed(m *nats.Msg) {
	a.mu.Lock()
	answer := a.waiting[m.Subject]
	delete(a.waiting, m.Subject)
	a.mu.Unlock()
	if answer != nil {
		answer <- m
	}
}

// stored reads a stream's answer (NATS JetStream API, PubAck).
func (a *AuditStream) stored(m *nats.Msg) error {
	if m.Header.Get("Status") == "503" {
		return fmt.Errorf("audit stream: no stream stores the subject %s: nats stream add AUDIT --subjects %s", a.subject, a.subject)
	}
	var ack struct {
		Stream string `json:"stream"`
		Seq    uint64 `json:"seq"`
		Error  *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &ack); {
	case err != nil || ack.Error == nil && (ack.Stream == "" || ack.Seq == 0):
		return fmt.Errorf("audit stream, subject %s: answered by something that is no stream", a.subject)
	case ack.Error != nil:
		return fmt.Errorf("audit stream, subject %s: the stream refuses: %.200q: see nats stream info", a.subject, ack.Error.Description)
	}
	return nil
}
