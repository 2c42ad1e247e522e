package relaytest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

// The broker holds a request back and answers first, a thousand times: with frames of other requests under the same grant,
// with the request's own frame, with every kind of rubbish. Then the genuine request and reply pass. The caller gets what the
// handler said, and nothing else.
func TestBrokerAnswersFirst(t *testing.T) {
	for _, hints := range []bool{false, true} {
		t.Run(fmt.Sprint("with hints ", hints), func(t *testing.T) {
			s := newStage(t)
			w := s.worker(http.HandlerFunc(namesItself), nil)
			client := s.publisher(nil)
			send(t, client, "POST", "/other").want(t, 200, "answer to /other") // of the same person, under the same grant
			var lies [][]byte
			for _, m := range w.door.Passed(hostile.Up) {
				if ofReplies(m) {
					lies = append(lies, m.Data)
				}
			}
			random := randomBytes(300)
			lies = append(lies, nil, []byte{1}, []byte{2}, []byte{9}, random, append([]byte{1, 2}, random...), append([]byte{1, 2, 0, 0, 0, 0, 0, 0, 0, 0}, random...),
				append([]byte{2}, random...), append(append([]byte{2}, random[:16]...), append([]byte{1, 2, 0, 0, 0, 0, 0, 0, 0, 0}, random...)...), bytes.Repeat([]byte{1}, 70_000))
			trap := new(hostile.Trap)
			s.app.Script(hostile.When(ofRequests, trap.Move))
			got := background(t, client, "POST", "/once")
			request := trap.Wait(t, 1)
			frame, _, _ := sealed(request)
			lies = append(lies, frame, request.Data)
			for i := range 1000 {
				s.app.Send(down(request.Reply, lies[i%len(lies)]))
			}
			if hints { // from now on the publisher waits two seconds for a proof
				for range 1000 {
					s.app.Send(hostile.NoResponders(request.Reply), down(request.Reply, relay.UnsealedRefusal(relay.CodeRefused)), down(request.Reply, []byte("\x00overloaded")))
				}
			}
			s.app.Script(hostile.Pass)
			s.app.Send(request)
			r := relaytest.Recv(t, got, "the reply")
			if hints && errors.Is(r.err, relay.CodeRefusedUnverified) || errors.Is(r.err, relay.CodeOutcomeUnknown) {
				r.wantUnknown(t) // a busy machine: the proof came too late
				return
			}
			r.want(t, 200, "answer to /once")
		})
	}
}

// The broker redirects replies: what is for one request goes to another one under the same grant, of another person, and of
// another publisher. Nobody gets what is not for them; and once the broker lets things pass everybody gets their own.
func TestRedirectedReplies(t *testing.T) {
	for _, forever := range []bool{false, true} {
		t.Run(fmt.Sprint("forever ", forever), func(t *testing.T) {
			s := newStage(t)
			b := newBlocker()
			w := s.worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b.handler("answer to "+r.URL.Path)(w, r)
			}), nil)
			clients := []http.RoundTripper{s.publisher(nil), s.publisher(nil)}
			const n = 6
			got := make([]<-chan reply, n)
			for i := range n {
				r := newRequest(t, "POST", fmt.Sprint("/", i), nil)
				r.Header.Set("X-Forwarded-Access-Token", relaytest.Token(fmt.Sprint("person ", i/2%2), tomorrow()))
				out := make(chan reply, 1)
				go func() { out <- do(clients[i%2], r) }()
				got[i] = out
			}
			for range n {
				relaytest.Recv(t, b.running, "the handler")
			}
			var replies []string
			for _, m := range s.app.Passed(hostile.Up) {
				if ofFirst(m) && !slices.Contains(replies, m.Reply) {
					replies = append(replies, m.Reply)
				}
			}
			if len(replies) != n {
				t.Fatalf("%d requests", len(replies))
			}
			var passed atomic.Int64
			w.door.Script(hostile.When(ofReplies, func(m *hostile.Message) []*hostile.Message {
				if passed.Add(1) > n && !forever {
					return []*hostile.Message{m}
				}
				var out []*hostile.Message
				for _, other := range replies { // to everybody but whom it is for
					if other != m.Subject {
						out = append(out, m.Altered(func(c *hostile.Message) { c.Subject = other }))
					}
				}
				return out
			}))
			close(b.resume)
			for i := range n {
				r := relaytest.Recv(t, got[i], "the reply")
				if forever {
					r.wantUnknown(t)
				} else {
					r.want(t, 200, fmt.Sprint("answer to /", i))
				}
			}
		})
	}
}

// The broker plays each end's frames back to itself, and everything that it has captured to everybody, in the middle of
// streams: nothing of it counts.
func TestReflectedFrames(t *testing.T) {
	s := newStage(t)
	w := s.worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	}), nil)
	client := s.publisher(nil)
	earlier, err := io.ReadAll(noise(1, 150_000))
	relaytest.Must(t, err)
	post := func(path string, body []byte) reply {
		return do(client, newRequest(t, "POST", path, io.MultiReader(bytes.NewReader(body))))
	}
	if got := post("/earlier", earlier); got.body != string(earlier) {
		t.Fatalf("%v", got.err)
	}
	var captured []*hostile.Message
	for _, m := range append(s.app.Passed(hostile.Up), w.door.Passed(hostile.Up)...) {
		if ofRequests(m) || ofReplies(m) {
			captured = append(captured, m)
		}
	}
	if len(captured) < 10 {
		t.Fatalf("%d messages captured", len(captured))
	}
	var mu sync.Mutex // the two doors' moves
	control, replies := "", ""
	// Each frame of this stream is followed by itself, sent back, and by a captured one under this stream's names.
	turn := 0
	reflect := func(m *hostile.Message) []*hostile.Message {
		mu.Lock()
		defer mu.Unlock()
		old := captured[turn%len(captured)].Data
		turn++
		if ofFirst(m) {
			replies, control = m.Reply, strings.Replace(m.Subject, ".req.", ".ctl.", 1)+m.Reply[strings.LastIndexByte(m.Reply, '.'):]
		}
		out := []*hostile.Message{m}
		if frame, _, ok := sealed(m); ok && replies != "" && m.Way == hostile.Up {
			for _, data := range [][]byte{m.Data, frame, old} {
				out = append(out, down(replies, bytes.Clone(data)))
			}
		}
		return out
	}
	s.app.Script(hostile.When(ofRequests, reflect))
	w.door.Script(hostile.When(ofReplies, func(m *hostile.Message) []*hostile.Message {
		mu.Lock()
		defer mu.Unlock()
		frame, _, ok := sealed(m)
		if !ok || control == "" {
			return []*hostile.Message{m}
		}
		return []*hostile.Message{m, down(control, m.Data), down(control, bytes.Clone(frame)), down(control, captured[turn%len(captured)].Data)}
	}))
	body, err := io.ReadAll(noise(2, 300_000))
	relaytest.Must(t, err)
	if got := post("/once", body); got.err != nil || got.StatusCode != 200 || got.body != string(body) {
		t.Errorf("%d bytes came back, %v", len(got.body), got.err)
	}
	mu.Lock()
	defer mu.Unlock()
	if turn < 5 {
		t.Errorf("only %d frames were reflected", turn)
	}
}
