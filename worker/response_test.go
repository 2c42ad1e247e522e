package worker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// answered is a reply as the publisher's end of the stream receives it.
type answered struct {
	whole   bool
	head    *relay.ReplyHead
	informs []int
	hinted  http.Header // of the last inform
	body    string
	err     error // of the body
	trailer http.Header
	frames  int
}

// respond runs a handler with a response over two ends of a stream, and reads what arrives.
func respond(t *testing.T, method string, handler func(*response)) answered {
	t.Helper()
	s := newSealer(t, nil)
	grant, _ := s.grant()
	id := relay.NewID()
	var app, svc *relay.Stream
	var got answered
	config := func(role relay.Role, publish relay.Publish) relay.StreamConfig {
		return relay.StreamConfig{Role: role, ID: id, Grant: grant, Limit: 48 << 10, Budget: relay.NewBudget(32 << 20), Now: time.Now, Publish: publish}
	}
	app = relay.NewStream(t.Context(), config(relay.RoleApp, func(b []byte, f relay.FrameType, _ int) error {
		if f != relay.FrameHead && f != relay.FrameWhole {
			_ = svc.Deliver(bytes.Clone(b))
		}
		return nil
	}))
	svc = relay.NewStream(t.Context(), config(relay.RoleService, func(b []byte, f relay.FrameType, _ int) error {
		if f != relay.FrameCredit {
			got.frames++
		}
		_ = app.Deliver(bytes.Clone(b))
		return nil
	}))
	defer app.Close()
	defer svc.Close()
	w := newResponse(svc.Context(), svc, method, func() {})
	done := make(chan struct{})
	go func() {
		defer close(done)
		handler(w)
		_ = w.finish() // what went wrong is seen at the other end
	}()
	for {
		frame, err := app.Head(t.Context())
		must(t, err)
		head, err := relay.DecodeReplyHead(frame.JSON)
		must(t, err)
		if frame.Type == relay.FrameInform {
			got.informs, got.hinted = append(got.informs, head.Status), head.Header
			continue
		}
		got.whole, got.head = frame.Type == relay.FrameWhole, head
		break
	}
	body, err := io.ReadAll(app)
	got.body, got.err = string(body), err
	if end := app.Trailer(); end != nil {
		got.trailer = end.Trailer
	}
	<-done
	return got
}

// A small reply is one frame with its length and type; one that is flushed or large begins at once.
func TestResponseFraming(t *testing.T) {
	large := strings.Repeat("x", bufferSize+1)
	for _, c := range []struct {
		name        string
		method      string
		handler     func(*response)
		status      int
		body        string
		length      int64
		whole       bool
		contentType string
	}{
		{"nothing", "GET", func(*response) {}, 200, "", 0, true, ""},
		{"status only", "GET", func(w *response) { w.WriteHeader(404) }, 404, "", 0, true, ""},
		{"small", "GET", func(w *response) { _, _ = io.WriteString(w, "<html>") }, 200, "<html>", 6, true, "text/html; charset=utf-8"},
		{"small, in parts", "GET", func(w *response) { _, _ = io.WriteString(w, "<ht"); _, _ = io.WriteString(w, "ml>") }, 200, "<html>", 6, true, "text/html; charset=utf-8"},
		{"own type", "GET", func(w *response) { w.Header().Set("Content-Type", "a/b"); _, _ = io.WriteString(w, "<html>") }, 200, "<html>", 6, true, "a/b"},
		{"no type wanted", "GET", func(w *response) { w.Header()["Content-Type"] = nil; _, _ = io.WriteString(w, "<html>") }, 200, "<html>", 6, true, ""},
		{"encoded", "GET", func(w *response) { w.Header().Set("Content-Encoding", "gzip"); _, _ = io.WriteString(w, "<html>") }, 200, "<html>", 6, true, ""},
		{"declared", "GET", func(w *response) { w.Header().Set("Content-Length", "5"); _, _ = io.WriteString(w, "hello") }, 200, "hello", 5, true, "text/plain; charset=utf-8"},
		{"declared badly", "GET", func(w *response) { w.Header().Set("Content-Length", "x"); _, _ = io.WriteString(w, "hello") }, 200, "hello", 5, true, "text/plain; charset=utf-8"},
		{"flushed", "GET", func(w *response) { _, _ = io.WriteString(w, "a"); w.Flush(); _, _ = io.WriteString(w, "b") }, 200, "ab", -1, false, "text/plain; charset=utf-8"},
		{"flushed empty", "GET", func(w *response) { w.Flush() }, 200, "", -1, false, ""},
		{"large", "GET", func(w *response) { _, _ = io.WriteString(w, large) }, 200, large, -1, false, "text/plain; charset=utf-8"},
		{"large, in parts", "GET", func(w *response) { _, _ = io.WriteString(w, large[:100]); _, _ = io.WriteString(w, large[100:]) }, 200, large, -1, false, "text/plain; charset=utf-8"},
		{"large, declared", "GET", func(w *response) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			_, _ = io.WriteString(w, large)
		}, 200, large, int64(len(large)), false, "text/plain; charset=utf-8"},
		{"second status", "GET", func(w *response) { w.WriteHeader(201); w.WriteHeader(500) }, 201, "", 0, true, ""},
		{"HEAD", "HEAD", func(w *response) { _, _ = io.WriteString(w, "hello") }, 200, "", 5, true, "text/plain; charset=utf-8"},
		{"HEAD, nothing", "HEAD", func(*response) {}, 200, "", -1, true, ""},
		{"HEAD, declared", "HEAD", func(w *response) { w.Header().Set("Content-Length", "1000") }, 200, "", 1000, true, ""},
		{"HEAD, large", "HEAD", func(w *response) { _, _ = io.WriteString(w, large) }, 200, "", int64(len(large)), true, "text/plain; charset=utf-8"},
		{"204", "GET", func(w *response) { w.WriteHeader(204); _, _ = io.WriteString(w, "no") }, 204, "", -1, true, ""},
		{"304", "GET", func(w *response) { w.Header().Set("Content-Length", "7"); w.WriteHeader(304) }, 304, "", 7, true, ""},
	} {
		got := respond(t, c.method, c.handler)
		if got.err != nil || got.head.Status != c.status || got.body != c.body || got.head.Length != c.length || got.whole != c.whole {
			t.Errorf("%s: %d, %d bytes, length %d, whole %v, %v", c.name, got.head.Status, len(got.body), got.head.Length, got.whole, got.err)
		}
		if have := got.head.Header.Get("Content-Type"); have != c.contentType {
			t.Errorf("%s: type %q, want %q", c.name, have, c.contentType)
		}
		if c.whole && got.frames != 1 {
			t.Errorf("%s: %d frames", c.name, got.frames)
		}
		if len(got.head.Header["Content-Length"]) != 0 {
			t.Errorf("%s: the length is a header too", c.name)
		}
	}
}

// The header is fixed at the first byte; names and values that could not stand in HTTP do not break the reply.
func TestResponseHeader(t *testing.T) {
	got := respond(t, "GET", func(w *response) {
		h := w.Header()
		h["x-lower"] = []string{"1"}
		h["X-Break"] = []string{"a\r\nX-Evil: b\x00"}
		h["not a name"] = []string{"x"}
		h["X-Bytes"] = []string{"\xff"}
		h["Connection"] = []string{"x-hop"}
		h["X-Hop"] = []string{"x"}
		h["Obo-Id"] = []string{"x"}
		w.WriteHeader(200)
		h.Set("X-Late", "x")
	})
	want := http.Header{"X-Lower": {"1"}, "X-Break": {"a  X-Evil: b "}, "X-Bytes": {"\xff"}}
	if !maps.EqualFunc(got.head.Header, want, slices.Equal) {
		t.Errorf("%q", got.head.Header)
	}
}

func TestResponseTrailer(t *testing.T) {
	got := respond(t, "GET", func(w *response) {
		w.Header().Set("Trailer", "X-Sum, X-Unset")
		w.Header().Add("Trailer", "content-length, not a name")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "7")
		w.Header().Set(http.TrailerPrefix+"x-late", "8")
		w.Header().Set(http.TrailerPrefix+"Connection", "x")
	})
	if want := (http.Header{"X-Sum": {"7"}, "X-Late": {"8"}}); !maps.EqualFunc(got.trailer, want, slices.Equal) || got.err != nil {
		t.Errorf("%q %v", got.trailer, got.err)
	}
	if len(got.head.Header["X-Sum"]) != 0 || !slices.Contains(got.head.Trailer, "X-Sum") {
		t.Errorf("%v %v", got.head.Header, got.head.Trailer)
	}
}

func TestResponseInforms(t *testing.T) {
	got := respond(t, "GET", func(w *response) {
		w.WriteHeader(102)
		w.Header().Set("Content-Length", "4") // the reply's, which does not cross as a field (PROTOCOL.md §9)
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		_, _ = io.WriteString(w, "done")
		w.WriteHeader(103) // too late
	})
	if !slices.Equal(got.informs, []int{102, 103}) || got.body != "done" || got.head.Length != 4 {
		t.Errorf("%+v", got)
	}
	if want := (http.Header{"Link": {"</a>"}}); !maps.EqualFunc(got.hinted, want, slices.Equal) {
		t.Errorf("%q", got.hinted)
	}
}

// A body that is not what was declared never looks whole.
func TestResponseOfAnotherLength(t *testing.T) {
	short := respond(t, "GET", func(w *response) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "short")
	})
	if short.head.Failure == nil || short.head.Failure.Code != relay.CodeHandlerFailed || short.head.Refusal != nil {
		t.Errorf("%+v", short.head)
	}
	late := respond(t, "GET", func(w *response) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "short")
		w.Flush()
	})
	if !errors.Is(late.err, relay.CodeHandlerFailed) || late.body != "short" {
		t.Errorf("%q %v", late.body, late.err)
	}
	long := respond(t, "GET", func(w *response) {
		w.Header().Set("Content-Length", "3")
		if _, err := io.WriteString(w, "hello"); !errors.Is(err, http.ErrContentLength) {
			t.Errorf("more than declared: %v", err)
		}
		_, _ = io.WriteString(w, "hel")
	})
	if long.body != "hel" || long.err != nil {
		t.Errorf("%q %v", long.body, long.err)
	}
}

// Refused means that nothing was started; failed means that something may have been. Only the first counts, and after it
// nothing is said.
func TestResponseEnds(t *testing.T) {
	refused := respond(t, "GET", func(w *response) {
		_ = w.refuse(relay.NewError(relay.CodeForbidden, "no"))
		_ = w.fail(relay.NewError(relay.CodeHandlerFailed, "no"))
		if _, err := io.WriteString(w, "x"); err == nil {
			t.Error("a body after a refusal")
		}
	})
	if p := refused.head.Refusal; p == nil || p.Code != relay.CodeForbidden || p.Outcome != relay.NotStarted || refused.head.Failure != nil || refused.body != "" {
		t.Errorf("%+v", refused.head)
	}
	failed := respond(t, "GET", func(w *response) {
		_, _ = io.WriteString(w, "half")
		_ = w.fail(relay.NewError(relay.CodeHandlerFailed, "no"))
	})
	if p := failed.head.Failure; p == nil || p.Outcome != relay.Unknown || failed.body != "" {
		t.Errorf("%+v %q", failed.head, failed.body)
	}
	broken := respond(t, "GET", func(w *response) {
		_, _ = io.WriteString(w, "half")
		w.Flush()
		_ = w.refuse(relay.NewError(relay.CodeForbidden, "no")) // too late to be one
	})
	if !errors.Is(broken.err, relay.CodeForbidden) || broken.body != "half" || broken.head.Refusal != nil {
		t.Errorf("%+v %v", broken, broken.err)
	}
	helper := respond(t, "GET", func(w *response) { Fail(wrapped{w}, relay.NewError(relay.CodeUpstreamDown, "no")) })
	if helper.head.Refusal == nil {
		t.Errorf("%+v", helper.head)
	}
}

type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A handler that returns because it is interrupted has not replied, whatever it has said, and however it ends.
func TestInterruptedReplyIsNoReply(t *testing.T) {
	cause := relay.NewError(relay.CodeTimeout, "too late")
	for name, end := range map[string]func(*response){
		"returns": func(w *response) { w.interrupted(cause) },
		"writes":  func(w *response) { _, _ = io.WriteString(w, "half"); w.interrupted(cause) },
		"fails":   func(w *response) { w.interrupted(cause); _ = w.fail(relay.NewError(relay.CodeHandlerFailed, "no")) },
	} {
		got := respond(t, "GET", end)
		if p := got.head.Failure; p == nil || p.Code != relay.CodeTimeout || got.body != "" {
			t.Errorf("%s: %+v %q", name, got.head, got.body)
		}
	}
	got := respond(t, "GET", func(w *response) { _, _ = io.WriteString(w, "half"); w.Flush(); w.interrupted(cause) })
	if !errors.Is(got.err, relay.CodeTimeout) || got.body != "half" {
		t.Errorf("flushed: %q, %v", got.body, got.err)
	}
}

// A head that is too large is the handler's failure, not silence.
func TestResponseHeadTooLarge(t *testing.T) {
	got := respond(t, "GET", func(w *response) {
		w.Header().Set("X-Large", strings.Repeat("x", relay.MaxHead))
		_, _ = io.WriteString(w, "body")
	})
	if p := got.head.Failure; p == nil || p.Code != relay.CodeHandlerFailed || !strings.Contains(p.Detail, "too large") {
		t.Errorf("%+v", got.head)
	}
}

// 101 is no status of a reply: its head would break the stream, and the worker would count it as done.
func TestResponseCannotSwitchProtocols(t *testing.T) {
	got := respond(t, "GET", func(w *response) {
		w.WriteHeader(http.StatusSwitchingProtocols)
		_, _ = io.WriteString(w, "more")
		if _, code, _ := w.result(); code != relay.CodeHandlerFailed {
			t.Errorf("the code is %q", code)
		}
	})
	if p := got.head.Failure; p == nil || p.Code != relay.CodeHandlerFailed || got.body != "" {
		t.Errorf("%+v %q", got.head, got.body)
	}
}

func TestResponseInvalidStatus(t *testing.T) {
	respond(t, "GET", func(w *response) {
		for _, status := range []int{0, 99, 1000, -1} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("status %d is taken", status)
					}
				}()
				w.WriteHeader(status)
			}()
		}
	})
}

// The type is found out by the first bytes however many come at once.
func TestResponseTypeOfAnySize(t *testing.T) {
	for _, size := range []int{1, bufferSize - 1, bufferSize, bufferSize + 1, 3 * bufferSize} {
		got := respond(t, "GET", func(w *response) { _, _ = io.WriteString(w, strings.Repeat("x", size)) })
		if typ := got.head.Header.Get("Content-Type"); typ != "text/plain; charset=utf-8" || len(got.body) != size || got.err != nil {
			t.Errorf("%d bytes: type %q, %d bytes, %v", size, typ, len(got.body), got.err)
		}
	}
}

// A field that may not be a trailer stays in the header, whatever the handler announces.
func TestResponseKeepsWhatIsNoTrailer(t *testing.T) {
	got := respond(t, "GET", func(w *response) {
		w.Header().Set("Trailer", "Cache-Control, Content-Type, X-Sum")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/x-test")
		_, _ = io.WriteString(w, "body")
	})
	if h := got.head.Header; h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "text/x-test" {
		t.Errorf("%v", h)
	}
}
