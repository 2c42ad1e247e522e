package relaytest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// rawStream is a request whose body is to come, of an app without a publisher: nobody keeps it alive or ends it but the test.
func rawStream(t *testing.T, app *relaytest.RawApp, w *worker.Worker, length int64) (s *relay.Stream, mute *atomic.Bool) {
	t.Helper()
	mute = new(atomic.Bool)
	said := app.Worker(w.Instance())
	grant, compact := app.Grant(said, alice())
	id := relay.NewID()
	head := &relay.RequestHead{
		Method: "POST", Path: "/do", Header: http.Header{}, Length: length, Trailer: []string{"X-Sum"}, IssuedAt: time.Now().UnixMilli(), TimeoutMS: 60_000,
		Subject: app.Subjects.Request(relaytest.Service, w.Instance(), relaytest.App), Reply: app.Subjects.Reply(relaytest.App, app.Inbox, id),
	}
	subject := head.Subject
	s = relaytest.NewRawStream(t, grant, id, func(b []byte) {
		if mute.Load() {
			return
		}
		_ = app.Tap.Conn.PublishMsg(&nats.Msg{Subject: subject, Reply: head.Reply, Data: b})
		subject = app.Subjects.Control(relaytest.Service, w.Instance(), relaytest.App, id)
	})
	s.SetGrant([]byte(compact))
	_, err := app.Tap.Conn.Subscribe(head.Reply, func(m *nats.Msg) { _ = s.Deliver(m.Data) })
	relaytest.Must(t, err)
	encoded, err := relay.EncodeHead(head)
	relaytest.Must(t, err)
	relaytest.Must(t, s.SendHead(encoded, nil, false, 0))
	return s, mute
}

// A publisher in another language that does what PROTOCOL.md forbids hears what it was, under seal and at once, as does one that
// the worker has not heard for too long. Whether a handler saw the request is told truly.
func TestPublishersHearWhatTheyDidWrong(t *testing.T) {
	read := func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	forward := func(w http.ResponseWriter, r *http.Request) { // says what it knows, as worker.Forward does
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			worker.Fail(w, relay.AsError(err))
		}
	}
	begin := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		read(w, r)
	}
	end := func(text string) func(*relay.Stream) error {
		return func(s *relay.Stream) error { return s.SendEnd([]byte(text), 0) }
	}
	more := func(s *relay.Stream) error {
		_, err := s.WriteData(t.Context(), []byte("four"))
		return err
	}
	again := func(s *relay.Stream) error { return s.SendHead([]byte("{}"), nil, false, 0) }
	failure, err := relay.EncodeHead(&relay.End{Failure: relay.NewError(relay.CodeBadRequest, "half way").Problem()})
	relaytest.Must(t, err)
	for name, c := range map[string]struct {
		fault   func(*relay.Stream) error // nil: it sends nothing more
		handler http.HandlerFunc          // nil: one that does not listen
		outcome relay.Outcome
		says    string
	}{
		"an end that is no JSON":        {end("{"), read, relay.Unknown, "obo.v1.end"},
		"an end with an unknown member": {end(`{"trailers":{}}`), read, relay.Unknown, "obo.v1.end"},
		"a trailer that cannot be one":  {end(`{"trailer":{"x-sum":["1"]}}`), read, relay.Unknown, "not in canonical form"},
		"an end after the reply began":  {end("{"), begin, relay.Unknown, "obo.v1.end"},
		"a body of another length":      {end("{}"), forward, relay.Unknown, "another length"},
		"a body over its length":        {more, forward, relay.Unknown, "another length"},
		"a body that is broken off":     {end(string(failure)), read, relay.Unknown, "broke the request's body off"},
		"a second head":                 {again, read, relay.Unknown, "may not stand there"},
		"a handler that does not heed":  {again, nil, relay.Unknown, "may not stand there"},
		"nothing more":                  {nil, read, relay.Unknown, "nothing was heard from the publisher"},
		"a second head in the queue":    {again, read, relay.NotStarted, "may not stand there"},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := start(t)
			over := make(chan struct{})
			b := newBlocker()
			w, _ := n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == "GET":
					b.handler("")(w, r)
				case c.handler == nil:
					b.running <- ""
					<-over
				default:
					b.running <- ""
					c.handler(w, r)
				}
			}), func(c *worker.Config) { c.MaxInFlight = 1 })
			t.Cleanup(func() { close(over) })
			app := n.RawApp()
			if c.outcome == relay.NotStarted { // somebody else's request takes the one place
				background(t, n.Publisher(nil), "GET", "/")
				relaytest.Recv(t, b.running, "the handler")
			}
			length := int64(-1)
			if c.says == "another length" {
				length = 3
			}
			s, mute := rawStream(t, app, w, length)
			if c.outcome == relay.Unknown {
				relaytest.Recv(t, b.running, "the handler")
			}
			if c.fault == nil {
				mute.Store(true)
			} else {
				relaytest.Must(t, c.fault(s))
			}
			ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
			defer cancel()
			problem, outcome := ended(ctx, t, s)
			if problem.Code != relay.CodeStreamBroken || outcome != c.outcome || !strings.Contains(problem.Detail, c.says) {
				t.Errorf("told %s, %+v", outcome, problem)
			}
			if c.outcome == relay.NotStarted && len(b.running) != 0 {
				t.Error("it was executed")
			}
		})
	}
}

// ended reads a reply to its end, which must be a problem.
func ended(ctx context.Context, t *testing.T, s *relay.Stream) (*relay.Problem, relay.Outcome) {
	t.Helper()
	f, err := s.Head(ctx)
	relaytest.Must(t, err)
	head, err := relay.DecodeReplyHead(f.JSON)
	relaytest.Must(t, err)
	switch {
	case head.Refusal != nil:
		return head.Refusal, relay.NotStarted
	case head.Failure != nil:
		return head.Failure, relay.Unknown
	}
	if f.Type == relay.FrameWhole {
		t.Fatalf("the reply is whole: %s", f.JSON)
	}
	for p := make([]byte, 1<<10); ; {
		if _, err := s.ReadContext(ctx, p); err != nil {
			var e *relay.Error
			if !errors.As(err, &e) || !e.Remote {
				t.Fatal(err)
			}
			return e.Problem(), e.Outcome
		}
	}
}

// Worker and publisher are stopped for a minute, as by SIGSTOP or a platform that freezes them, and go on: their requests do, too.
func TestRequestsOutliveAStoppedProcess(t *testing.T) {
	n, _ := start(t)
	var stopped [2]atomic.Int64
	clock := func(i int) func() time.Time {
		return func() time.Time { return time.Now().Add(time.Duration(stopped[i].Load())) }
	}
	b := newBlocker()
	n.Worker(b.handler("done"), func(c *worker.Config) { c.Now = clock(0) })
	client := n.Publisher(func(c *publisher.Config) { c.Now = clock(1) })
	tap := n.Tap(n.Root, "obo.v1.>")
	got := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	for i := range stopped {
		stopped[i].Store(int64(time.Minute))
	}
	for _, way := range []string{".ctl.", ".rep."} { // keep-alives of both, after their first look at the clock
		tap.Wait(way, len(tap.On(way))+2)
	}
	close(b.resume)
	relaytest.Recv(t, got, "the reply").want(t, 200, "done")
}
