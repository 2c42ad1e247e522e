package worker

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/obo-relay/obo-relay/relay"
)

// startJetStream starts a NATS server, with the permissions that a user needs, or without any limits.
func startJetStream(t *testing.T, p *server.Permissions) (url string) {
	t.Helper()
	opts := &server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir()}
	opts.Users = []*server.User{{Username: "operator", Password: "o"}, {Username: "worker", Password: "w", Permissions: p}}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return s.ClientURL()
}

func as(user, url string) string {
	return strings.Replace(url, "nats://", "nats://"+user+":"+user[:1]+"@", 1)
}

func newTestStream(t *testing.T, url string) *AuditStream {
	t.Helper()
	up := make(chan struct{}, 8)
	a, err := NewAuditStream(AuditStreamConfig{
		NATS: relay.ConnectConfig{URL: as("worker", url), OnUp: func() { up <- struct{}{} }}, Subject: "audit.middleware", Service: "middleware",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	<-up
	return a
}

func operator(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(as("operator", url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// leastPermissions are those that the documentation of AuditStream names.
func leastPermissions() *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"audit.middleware"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.obo-audit.middleware.>"}},
	}
}

func TestAuditStream(t *testing.T) {
	for name, permissions := range map[string]*server.Permissions{"no limits": nil, "least permissions": leastPermissions()} {
		t.Run(name, func(t *testing.T) {
			url := startJetStream(t, permissions)
			a := newTestStream(t, url)
			err := a.Audit(t.Context(), testRecord())
			if err == nil || !strings.Contains(err.Error(), "nats stream add") {
				t.Errorf("without a stream: %v", err)
			}
			js := operator(t, url)
			stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}, MaxMsgs: 4, Discard: jetstream.DiscardNew})
			if err != nil {
				t.Fatal(err)
			}
			r := testRecord()
			events := []string{AuditStarted, AuditEnded, AuditEnded} // an app may use an id again: no record may hide behind another
			for _, event := range events {
				r.Event = event
				if err := a.Audit(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			for seq, event := range events {
				m, err := stream.GetMsg(t.Context(), uint64(seq+1))
				if err != nil {
					t.Fatal(err)
				}
				var got AuditRecord
				if err := json.Unmarshal(m.Data, &got); err != nil || got.RequestID != r.RequestID || got.Event != event || m.Subject != "audit.middleware" {
					t.Errorf("got %+v, %v", got, err)
				}
			}
			if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 3 {
				t.Errorf("%+v, %v", info, err)
			}
			keep(t, a)
			if err := a.Audit(t.Context(), testRecord()); err == nil || !strings.Contains(err.Error(), "the stream refuses") {
				t.Errorf("a full stream: %v", err)
			}
			a.Close()
			if err := a.Audit(t.Context(), testRecord()); err == nil || !strings.Contains(err.Error(), "not sent") {
				t.Errorf("a closed connection: %v", err)
			}
		})
	}
}

// While a stream is silent, one record at a time finds out whether it still is; the others do not wait.
func TestAuditStreamDenied(t *testing.T) {
	url := startJetStream(t, &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"elsewhere"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.obo-audit.middleware.>"}},
	})
	a := newTestStream(t, url)
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := a.Audit(short, testRecord())
	if err == nil || !strings.Contains(err.Error(), "no confirmation") || !strings.Contains(strings.ToLower(err.Error()), "permissions violation") {
		t.Errorf("got %v", err)
	}
	a.probing.Store(true) // another record finds out
	if err := a.Audit(t.Context(), testRecord()); err == nil || !strings.Contains(err.Error(), "no confirmation") {
		t.Errorf("got %v", err)
	}
	a.probing.Store(false)
	answered, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	go a.confirmed(&nats.Msg{Subject: "nobody waits for this"})
	a.subject = "elsewhere" // where it may publish, and nobody listens: an answer, if not a good one
	if err := a.Audit(answered, testRecord()); err == nil || !strings.Contains(err.Error(), "no stream stores") || a.silent.Load() {
		t.Errorf("got %v", err)
	}
}

func TestAuditStreamBelievesOnlyStreams(t *testing.T) {
	a := &AuditStream{subject: "audit.x"}
	for data, want := range map[string]bool{
		`{"stream":"AUDIT","seq":1}`: true, `{"stream":"AUDIT","seq":1,"duplicate":true}`: true,
		`{}`: false, `ok`: false, ``: false, `{"stream":"AUDIT"}`: false, `{"error":{"code":503,"description":"full"},"stream":"AUDIT","seq":1}`: false,
	} {
		if err := a.stored(&nats.Msg{Data: []byte(data)}); (err == nil) != want {
			t.Errorf("%s: %v", data, err)
		}
	}
}

func TestAuditStreamConfig(t *testing.T) {
	for subject, want := range map[string]string{
		"": "want a NATS subject", "a.*": "want a NATS subject", "a.>": "want a NATS subject", "$JS.API.STREAM.PURGE.S": "want a NATS subject", "a b": "want a NATS subject",
		"a..b": "want a NATS subject", "p.obo.v1.announce.middleware": "the relay's own", "_INBOX.x": "the relay's own",
		"audit.middleware": "", "obo.v1.x": "",
	} {
		err := AuditStreamConfig{Subject: subject, Service: "middleware", Prefix: "p"}.validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", subject, err)
		}
	}
	if _, err := NewAuditStream(AuditStreamConfig{Subject: "a", Service: "X"}); err == nil {
		t.Error("a service with no name")
	}
}

// A record that is never answered, from before a stream was there, says nothing of a stream that has answered since.
func TestAuditStreamThatAnswersIsNotSilent(t *testing.T) {
	url := startJetStream(t, nil)
	a := newTestStream(t, url)
	js := operator(t, url)
	got := make(chan *nats.Msg, 1)
	mute, err := js.Conn().ChanSubscribe("audit.middleware", got)
	must(t, err)
	must(t, js.Conn().Flush())
	ctx, cancel := context.WithCancel(t.Context())
	lost := make(chan error, 1)
	go func() { lost <- a.Audit(ctx, testRecord()) }()
	<-got
	must(t, mute.Unsubscribe())
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}})
	must(t, err)
	must(t, a.Audit(t.Context(), testRecord()))
	cancel()
	if err := <-lost; err == nil {
		t.Error("kept by nobody")
	}
	a.probing.Store(true) // two at once
	if err := a.Audit(t.Context(), testRecord()); err != nil {
		t.Errorf("a record is lost although the stream answers: %v", err)
	}
}

// A denial from before a stream answered is no reason for what it does not answer later.
func TestAuditStreamForgetsADenial(t *testing.T) {
	url := startJetStream(t, nil)
	a := newTestStream(t, url)
	_, err := operator(t, url).CreateStream(t.Context(), jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}})
	must(t, err)
	old := "denied last year"
	a.denied.Store(&old)
	if err := a.unconfirmed(); !strings.Contains(err.Error(), old) {
		t.Error(err)
	}
	must(t, a.Audit(t.Context(), testRecord()))
	if err := a.unconfirmed(); strings.Contains(err.Error(), old) {
		t.Error(err)
	}
}
