package telemetry

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

func recorder() (*tracetest.SpanRecorder, trace.Tracer) {
	r := tracetest.NewSpanRecorder()
	return r, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r)).Tracer("test")
}

// What a handler does to its ResponseWriter works as without a span around it, and its end is noted however it ends.
func TestServer(t *testing.T) {
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		status  int64 // 0: none
		failed  bool
	}{
		"says nothing": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, 200, false},
		"not found":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, 404, false},
		"fails": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(100)
			w.WriteHeader(502)
			w.WriteHeader(200)
		}, 502, true},
		"flushes": {func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			if err := errors.Join(rc.EnableFullDuplex(), rc.Flush()); err != nil {
				t.Error(err)
			}
			if !trace.SpanFromContext(r.Context()).IsRecording() {
				t.Error("no span in the context")
			}
			w.WriteHeader(201)
		}, 201, false},
		"breaks off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			spans, tracer := recorder()
			server := httptest.NewServer(Server(c.handler, tracer, ServiceKey.String("middleware")))
			defer server.Close()
			resp, err := server.Client().Get(server.URL + "/a/path?q=secret")
			if (err != nil) != (c.status == 0) {
				t.Fatal(err)
			}
			if err == nil {
				resp.Body.Close()
			}
			server.Close() // waits for the handler
			ended := spans.Ended()
			if len(ended) != 1 {
				t.Fatalf("%d spans", len(ended))
			}
			got := map[string]any{}
			for _, kv := range ended[0].Attributes() {
				got[string(kv.Key)] = kv.Value.AsInterface()
				if strings.Contains(kv.Value.String(), "secret") {
					t.Errorf("%s holds the query", kv.Key)
				}
			}
			if status, _ := got["http.response.status_code"].(int64); status != c.status || got["url.path"] != "/a/path" || got["obo.service"] != "middleware" {
				t.Errorf("%v", got)
			}
			if failed := ended[0].Status().Code == codes.Error; failed != c.failed {
				t.Errorf("failed: %v", failed)
			}
		})
	}
}

// roundTripper answers without a network.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A client's request is not changed, its span lasts until the body has ended, and a WebSocket's connection stays one.
func TestClient(t *testing.T) {
	spans, tracer := recorder()
	request := func() *http.Request {
		r := httptest.NewRequest("GET", "http://user:secret@127.0.0.1:8000/path?q=secret", nil)
		r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		return r
	}
	send := func(r *http.Request, resp *http.Response, err error) (*http.Response, error) {
		return Client(roundTripper(func(sent *http.Request) (*http.Response, error) {
			if got := sent.Header.Get("Traceparent"); got == r.Header.Get("Traceparent") || len(got) != 55 {
				t.Errorf("traceparent %q is sent", got)
			}
			return resp, err
		}), tracer).RoundTrip(r)
	}
	r := request()
	resp, err := send(r, &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(strings.NewReader("body"))}, nil)
	if err != nil || len(spans.Ended()) != 0 || !strings.HasPrefix(r.Header.Get("Traceparent"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331") {
		t.Fatalf("%v, %d spans, %v", err, len(spans.Ended()), r.Header)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "body" || len(spans.Ended()) != 1 {
		t.Errorf("%q, %v, %d spans", body, err, len(spans.Ended()))
	}
	connection := struct{ io.ReadWriteCloser }{}
	if resp, err := send(request(), &http.Response{StatusCode: 101, Body: connection}, nil); err != nil || resp.Body != io.ReadCloser(connection) {
		t.Errorf("the connection is %T, %v", resp.Body, err)
	}
	if _, err := send(request(), nil, errors.New("a text with secret")); err == nil {
		t.Error("no error")
	}
	ended := spans.Ended()
	if len(ended) != 3 || ended[2].Status().Code != codes.Error {
		t.Fatalf("%d spans", len(ended))
	}
	for _, s := range ended {
		for _, kv := range s.Attributes() {
			if strings.Contains(kv.Value.String(), "secret") {
				t.Errorf("%s is %s", kv.Key, kv.Value.String())
			}
		}
		if strings.Contains(s.Status().Description, "secret") || len(s.Events()) > 0 {
			t.Errorf("%v %v", s.Status(), s.Events())
		}
	}
}

func TestWatchBody(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		body   io.Reader
		length int64
		read   int64 // at most; -1 = to the end
		n      int64
		err    error
	}{
		"whole":                 {strings.NewReader("1234"), 4, -1, 4, nil},
		"whole, end not seen":   {strings.NewReader("1234"), 4, 4, 4, nil},
		"of no known length":    {strings.NewReader("1234"), -1, -1, 4, nil},
		"left":                  {strings.NewReader("1234"), -1, 2, 2, ErrLeft},
		"left, of known length": {strings.NewReader("1234"), 4, 2, 2, ErrLeft},
		"broken":                {io.MultiReader(strings.NewReader("12"), iotestErr{broken}), 4, -1, 2, broken},
	} {
		t.Run(name, func(t *testing.T) {
			resp := &http.Response{ContentLength: c.length, Body: io.NopCloser(c.body)}
			times := 0
			WatchBody(resp, func(n int64, err error) {
				if times++; n != c.n || err != c.err {
					t.Errorf("ended with %d, %v; want %d, %v", n, err, c.n, c.err)
				}
			})
			if c.read < 0 {
				_, _ = io.Copy(io.Discard, resp.Body)
			} else {
				_, _ = io.CopyN(io.Discard, resp.Body, c.read)
			}
			if err := errors.Join(resp.Body.Close(), resp.Body.Close()); err != nil || times != 1 {
				t.Errorf("%v, told %d times", err, times)
			}
		})
	}
	told := false
	WatchBody(&http.Response{Body: http.NoBody}, func(n int64, err error) { told = n == 0 && err == nil })
	if !told {
		t.Error("no body has no end")
	}
}

type iotestErr struct{ error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.error }
