package relaytest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

const (
	streamChunk  = 20_000
	streamChunks = 5                // more than the first window
	streamFrames = streamChunks + 1 // at least: the first chunk may travel with the head
)

// chunked reads in chunks of one size, so that each becomes one frame.
type chunked struct{ r io.Reader }

func (c chunked) Read(p []byte) (int, error) { return io.ReadFull(c.r, p[:min(len(p), streamChunk)]) }

// treatment is what is done to one frame of one request: the first time that it comes, or each time.
type treatment struct {
	name   string
	always bool
	move   func(h *held, m *hostile.Message) []*hostile.Message
	breaks bool // the stream cannot be completed
}

// held is what a request's treatment keeps.
type held struct {
	done   bool
	back   *hostile.Message   // held back until the next frame of the same direction
	others []*hostile.Message // frames with the same number in the other requests, as they came
}

func alterFrame(change func(frame []byte)) func(*held, *hostile.Message) []*hostile.Message {
	return func(_ *held, m *hostile.Message) []*hostile.Message {
		return []*hostile.Message{m.Altered(func(c *hostile.Message) {
			frame, _, _ := sealed(c)
			change(frame)
		})}
	}
}

var treatments = []treatment{
	{name: "dropped", move: func(*held, *hostile.Message) []*hostile.Message { return nil }},
	{name: "dropped always", always: true, breaks: true, move: func(*held, *hostile.Message) []*hostile.Message { return nil }},
	{name: "repeated", move: func(_ *held, m *hostile.Message) []*hostile.Message { return []*hostile.Message{m, m, m} }},
	{name: "repeated later", move: func(h *held, m *hostile.Message) []*hostile.Message {
		h.back = m
		return []*hostile.Message{m}
	}},
	{name: "swapped with the next", move: func(h *held, m *hostile.Message) []*hostile.Message {
		h.back = m
		return nil
	}},
	{name: "a byte altered", move: alterFrame(func(f []byte) { f[len(f)/2+5] ^= 1 })},
	{name: "a byte altered always", always: true, breaks: true, move: alterFrame(func(f []byte) { f[len(f)/2+5] ^= 1 })},
	{name: "called an end", always: true, move: alterFrame(func(f []byte) { f[1] = byte(relay.FrameEnd) })},
	{name: "called data", always: true, move: alterFrame(func(f []byte) { f[1] = byte(relay.FrameData) })},
	{name: "numbered higher", move: alterFrame(func(f []byte) { f[9]++ })},
	{name: "numbered lower", move: alterFrame(func(f []byte) { f[9]-- })},
	{name: "cut short", always: true, breaks: true, move: func(_ *held, m *hostile.Message) []*hostile.Message {
		return []*hostile.Message{m.Altered(func(c *hostile.Message) { c.Data = c.Data[:len(c.Data)-1] })}
	}},
	{name: "another request's", always: true, breaks: true, move: func(h *held, m *hostile.Message) (out []*hostile.Message) {
		for _, other := range h.others {
			out = append(out, m.Altered(func(c *hostile.Message) { c.Data = bytes.Clone(other.Data) }))
		}
		return out
	}},
}

// treated is a request whose frames are treated.
type treated struct {
	treatment
	way  string // up: from the publisher. down: from the worker
	seq  uint64
	mu   sync.Mutex
	held held
}

// treat makes a treatment's move on a message of its request.
func (x *treated) treat(way string, m *hostile.Message) []*hostile.Message {
	x.mu.Lock()
	defer x.mu.Unlock()
	frame, _, ok := sealed(m)
	if !ok || way != x.way || frameSeq(frame)>>63 == 1 {
		return []*hostile.Message{m}
	}
	if frameSeq(frame) == x.seq && (x.always || !x.held.done) {
		x.held.done = true
		return x.move(&x.held, m)
	}
	out := []*hostile.Message{m}
	if x.held.back != nil {
		out = append(out, x.held.back)
		x.held.back = nil
	}
	return out
}

// Each frame of bodies that are streamed in both directions, the head and the end among them, is dropped, swapped, repeated,
// altered, renamed, renumbered, cut and exchanged, once and always. A body arrives whole, or its reader is told that it
// did not: there is no third end.
func TestEveryFrameOfAStream(t *testing.T) {
	s := newStage(t)
	upload, err := io.ReadAll(noise(3, streamChunk*streamChunks))
	relaytest.Must(t, err)
	download, err := io.ReadAll(noise(4, streamChunk*streamChunks))
	relaytest.Must(t, err)
	var handled sync.Map // path → what the handler read, as an error
	w := s.worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && !bytes.Equal(body, upload) {
			t.Errorf("%s: the handler took %d bytes for the whole body", r.URL.Path, len(body))
		}
		handled.Store(r.URL.Path, fmt.Sprint(len(body), " bytes, ", err))
		if err != nil {
			return
		}
		for rest := download; len(rest) > 0; rest = rest[streamChunk:] {
			_, _ = w.Write(rest[:streamChunk])
			_ = http.NewResponseController(w).Flush()
		}
	}), func(c *worker.Config) { c.MaxInFlight = 1000 })
	client := s.publisher(func(c *publisher.Config) { c.MaxInFlight = 1000 })
	post := func(path string) reply {
		r := newRequest(t, "POST", path, chunked{bytes.NewReader(upload)})
		r.Header.Set("X-Forwarded-Access-Token", relaytest.Token(path, tomorrow())) // each of its own person: slots are shared fairly
		r.Header.Set(relay.HeaderTimeout, "20")                                     // what ends a stream whose last frame never comes
		return do(client, r)
	}
	// A stream that is left alone, to learn how its frames are numbered, and for frames of another request.
	if got := post("/alone"); got.err != nil || got.body != string(download) {
		t.Fatalf("%d bytes, %v", len(got.body), got.err)
	}
	frames := map[string]map[uint64]*hostile.Message{"up": {}, "down": {}}
	for way, d := range map[string]*hostile.Door{"up": s.app, "down": w.door} {
		for _, m := range d.Passed(hostile.Up) {
			if frame, _, ok := sealed(m); ok && frameSeq(frame)>>63 == 0 {
				frames[way][frameSeq(frame)] = m
			}
		}
		if len(frames[way]) < streamFrames {
			t.Fatalf("%d frames %s", len(frames[way]), way)
		}
	}
	cases, byID := map[string]*treated{}, map[string]*treated{}
	for _, way := range []string{"up", "down"} {
		for seq := range uint64(len(frames[way])) {
			for i, x := range treatments {
				cases[fmt.Sprintf("/%s/%d/%d", way, seq, i)] = &treated{treatment: x, way: way, seq: seq, held: held{others: []*hostile.Message{frames[way][seq]}}}
			}
		}
	}
	var mu sync.Mutex
	script := func(way string) hostile.Move {
		return func(m *hostile.Message) []*hostile.Message {
			if m.Way != hostile.Up || !ofRequests(m) && !ofReplies(m) {
				return []*hostile.Message{m}
			}
			subject := m.Subject
			if ofFirst(m) {
				subject = m.Reply
			}
			id := subject[strings.LastIndexByte(subject, '.')+1:]
			mu.Lock()
			if x := cases[m.Header.Get("Obo-Path")]; ofFirst(m) && x != nil {
				byID[id] = x
			}
			x := byID[id]
			mu.Unlock()
			if x == nil {
				return []*hostile.Message{m}
			}
			return x.treat(way, m)
		}
	}
	s.app.Script(script("up"))
	w.door.Script(script("down"))
	var wg sync.WaitGroup
	for path, x := range cases {
		wg.Go(func() {
			got := post(path)
			what := fmt.Sprintf("frame %d %s %s", x.seq, x.way, x.name)
			switch {
			case got.err == nil && got.body != string(download):
				t.Errorf("%s: %d bytes were taken for the whole reply: %s", what, len(got.body), got.Status)
			case got.err == nil && x.breaks:
				t.Errorf("%s: nobody noticed", what)
			}
			var e *relay.Error
			if got.err != nil && (!errors.As(got.err, &e) || e.Problem().Outcome != relay.Unknown) {
				t.Errorf("%s: %v, want an unknown outcome", what, got.err)
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			if got.err == nil && !x.held.done && x.seq < streamFrames { // more frames only if the first chunk did not travel with the head
				t.Errorf("%s: that frame did not come", what)
			}
		})
	}
	wg.Wait()
	for path, x := range cases {
		saw, _ := handled.Load(path)
		if text, _ := saw.(string); x.way == "up" && x.breaks && strings.HasSuffix(text, "<nil>") {
			t.Errorf("frame %d up %s: the handler took the body for whole", x.seq, x.name)
		}
	}
}

// A frame of data that reads as an end, {}, is called one: what comes before it is not taken for the whole body, in either
// direction.
func TestDataCalledAnEnd(t *testing.T) {
	chunks := []string{"first", "{}", "last"}
	for _, way := range []string{"up", "down"} {
		t.Run(way, func(t *testing.T) {
			s := newStage(t)
			read := make(chan string, 1)
			w := s.worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				read <- fmt.Sprint(string(body), " ", err)
				for _, chunk := range chunks {
					_, _ = io.WriteString(w, chunk)
					_ = http.NewResponseController(w).Flush()
				}
			}), nil)
			client := s.publisher(nil)
			renamed := 0
			rename := hostile.When(func(m *hostile.Message) bool { return m.Way == hostile.Up && (ofRequests(m) || ofReplies(m)) }, func(m *hostile.Message) []*hostile.Message {
				return []*hostile.Message{m.Altered(func(c *hostile.Message) {
					if frame, _, ok := sealed(c); ok && frameType(frame) == relay.FrameData && len(frame) == 26+len("{}") {
						frame[1] = byte(relay.FrameEnd)
						renamed++
					}
				})}
			})
			if way == "up" {
				s.app.Script(rename)
			} else {
				w.door.Script(rename)
			}
			in, out := io.Pipe()
			go func() {
				for _, chunk := range chunks {
					_, _ = io.WriteString(out, chunk) // each read by itself, so a frame by itself
				}
				_ = out.Close()
			}()
			got := do(client, newRequest(t, "POST", "/once", in))
			if got.err == nil {
				t.Errorf("%q was taken for the whole reply", got.body)
			}
			if text := relaytest.Recv(t, read, "the handler"); way == "up" && strings.HasSuffix(text, "<nil>") {
				t.Errorf("the handler took %s for the whole body", text)
			}
			s.app.Script(hostile.Pass)
			w.door.Script(hostile.Pass)
			if renamed == 0 {
				t.Error("no frame was renamed")
			}
		})
	}
}
