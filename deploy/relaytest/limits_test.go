package relaytest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

func contextWith(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func contextUntil(t *testing.T, at time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadline(t.Context(), at)
}

func TestHeadTooLarge(t *testing.T) {
	n, _ := start(t)
	handler := &counter{}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	tap := n.Tap(n.Inspector, "obo.v1.req.>")
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		says   string
	}{
		{"headers", func(r *http.Request) { r.Header.Set("X-Large", strings.Repeat("a", 32<<10)) }, "the limit is 32768"},
		{"query", func(r *http.Request) { r.URL.RawQuery = strings.Repeat("a", 33<<10) }, "the limit is 32768"},
		{"path", func(r *http.Request) { r.URL.Path = "/" + strings.Repeat("a", 8<<10) }, "the limit is 8192"},
		{"bytes that double", func(r *http.Request) { r.Header.Set("X-Large", strings.Repeat("\xff", 17<<10)) }, "the limit is 32768"},
	} {
		r := newRequest(t, "POST", "/", nil)
		c.change(r)
		began := time.Now()
		got := do(client, r)
		got.wantCode(t, relay.CodeHeadTooLarge, c.says)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: took %v", c.name, took)
		}
	}
	if relay.CodeHeadTooLarge.Info().Status != 413 || relay.CodeBodyTooLarge.Info().Status != 413 {
		t.Error("not 413")
	}
	handler.want(t, 0)
	if len(tap.All()) != 0 {
		t.Error("messages left the publisher")
	}
}

func TestBodyTooLarge(t *testing.T) {
	n, _ := start(t)
	handler := &counter{handler: func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			worker.Fail(w, relay.Wrap(relay.CodeBodyTooLarge, err, "the body is over the limit of 100000 bytes"))
		}
	}}
	n.Worker(handler, func(c *worker.Config) { c.MaxBody = 100_000 })
	client := n.Publisher(nil)
	for _, size := range []int{0, 1, 100_000} {
		do(client, newRequest(t, "POST", "/", bytes.NewReader(make([]byte, size)))).want(t, 200, "")
	}
	handler.want(t, 3)
	do(client, newRequest(t, "POST", "/", bytes.NewReader(make([]byte, 100_001)))).wantCode(t, relay.CodeBodyTooLarge, "100001 bytes", "at most 100000", "--max-body")
	handler.want(t, 3) // it was refused before it was sent
	unknown := io.MultiReader(bytes.NewReader(make([]byte, 100_001)))
	do(client, newRequest(t, "POST", "/", unknown)).wantCode(t, relay.CodeBodyTooLarge, "100000")
}

// The files in which a handler's multipart form is kept do not outlive the request, however it ends.
func TestFilesOfAForm(t *testing.T) {
	n, _ := start(t)
	kept := make(chan string, 2)
	_, stop := n.Worker(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		relaytest.Must(t, r.ParseMultipartForm(0))
		f, err := r.MultipartForm.File["upload"][0].Open()
		relaytest.Must(t, err)
		defer f.Close()
		kept <- f.(*os.File).Name()
		if r.URL.Path == "/dies" {
			panic(http.ErrAbortHandler)
		}
	}), nil)
	client := n.Publisher(nil)
	for _, path := range []string{"/", "/dies"} {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, err := form.CreateFormFile("upload", "name")
		relaytest.Must(t, err)
		_, err = part.Write(make([]byte, 100_000))
		relaytest.Must(t, err)
		relaytest.Must(t, form.Close())
		r := newRequest(t, "POST", path, &body)
		r.Header.Set("Content-Type", form.FormDataContentType())
		do(client, r)
	}
	stop() // which waits for the handler
	for range 2 {
		name := relaytest.Recv(t, kept, "the handler")
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
			_ = os.Remove(name)
		}
	}
}

// A body whose length is a lie is never handed on as a whole one.
func TestBodyOfAnotherLength(t *testing.T) {
	n, _ := start(t)
	whole := make(chan bool, 8)
	_, stop := n.Worker(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		whole <- err == nil
	}), nil)
	client := n.Publisher(nil)
	r := newRequest(t, "POST", "/", strings.NewReader("short"))
	r.ContentLength = 10
	do(client, r).wantCode(t, relay.CodeBadRequest, "shorter than its Content-Length")
	for _, declared := range []int64{50_000, 150_000} {
		r = newRequest(t, "POST", "/", bytes.NewReader(make([]byte, 100_000)))
		r.ContentLength = declared
		do(client, r).wantCode(t, relay.CodeBadRequest, "another length")
	}
	do(client, newRequest(t, "POST", "/", bytes.NewReader(make([]byte, 100_000)))).want(t, 200, "")
	stop() // which waits for the handler
	close(whole)
	taken := 0
	for ok := range whole { // whether it was called for the others is a matter of time
		if ok {
			taken++
		}
	}
	if taken != 1 {
		t.Errorf("the handler took %d bodies for whole, one was", taken)
	}
}

// A server with the smallest max_payload carries everything that one with the usual one does.
func TestSmallMaxPayload(t *testing.T) {
	t.Parallel()
	log := new(relaytest.Log)
	n := relaytest.NewWith(t, log, relaytest.Options{ServerConf: func(text string) string {
		return strings.Replace(text, "max_payload: 1MB", "max_payload: 65536", 1)
	}})
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		_, _ = io.Copy(io.MultiWriter(sum, w), r.Body)
		w.Header().Set(http.TrailerPrefix+"X-Sum", hex.EncodeToString(sum.Sum(nil)))
	}), nil)
	client := n.Publisher(nil)
	token := relaytest.Token(strings.Repeat("a", 2900), time.Now().Add(time.Hour)) // the longest is 8000 bytes
	for _, size := range []int{0, 1000, 30 << 10, 32 << 10, 33 << 10, 300 << 10} {
		for _, header := range []int{0, 10 << 10, 31 << 10} {
			r := newRequest(t, "POST", "/"+strings.Repeat("p", 500), bytes.NewReader(make([]byte, size)))
			r.Header.Set("X-Forwarded-Access-Token", token)
			r.Header.Set("X-Large", strings.Repeat("h", header))
			r.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
			got := do(client, r)
			if got.err != nil || len(got.body) != size {
				t.Errorf("body of %d bytes, header of %d: %v", size, header, got.err)
			}
		}
	}
	if strings.Contains(log.String(), "maximum payload") {
		t.Errorf("max_payload was exceeded:\n%s", log)
	}
}

// With less than that nothing is sent, and everybody says why.
func TestMaxPayloadTooSmall(t *testing.T) {
	t.Parallel()
	log := new(relaytest.Log)
	n := relaytest.NewWith(t, log, relaytest.Options{ServerConf: func(text string) string {
		return strings.Replace(text, "max_payload: 1MB", "max_payload: 10000", 1)
	}})
	n.Worker(says("hello"), nil)
	client := n.Publisher(nil)
	send(t, client, "POST", "/").wantCode(t, relay.CodeNATSUnavailable, "max_payload is 10000 bytes, obo needs 65536: raise it")
	log.Wait(t, "not announced: raise the NATS server's max_payload")
}

func TestPublisherAtItsLimit(t *testing.T) {
	n, _ := start(t)
	b := newBlocker()
	n.Worker(b.handler("done"), nil)
	client := n.Publisher(func(c *publisher.Config) { c.MaxInFlight = 1 })
	first := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the first request")
	send(t, client, "POST", "/").wantCode(t, relay.CodePublisherBusy, "--max-in-flight")
	close(b.resume)
	(<-first).want(t, 200, "done")
	send(t, client, "POST", "/").want(t, 200, "done") // the slot is free again
}
