package chaos

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

// TestHTTPIsTheSameWithAndWithoutTheRelay sends the same bytes to the backend and to the sidecar, and compares what comes
// back and what the backend saw. What differs on purpose (PROTOCOL.md §9) is left out of the comparison by seen and dump.
func TestHTTPIsTheSameWithAndWithoutTheRelay(t *testing.T) {
	backend := &observer{bodies: make(chan string, 1), resume: make(chan struct{}, 1)}
	s := newStage(t, backend.handler(), stageConfig{})
	cases := behaviours()
	if len(cases) < 40 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want := c.run(t, s, backend, s.direct)
			got := c.run(t, s, backend, s.relayed)
			if got != want {
				t.Errorf("%q\ndirect:\n%s\nthrough the relay:\n%s", c.raw, want, got)
			}
			if c.contains != "" && !strings.Contains(want, c.contains) {
				t.Errorf("the direct answer lacks %q, so this case tests nothing:\n%s", c.contains, want)
			}
		})
	}
	if t.Failed() {
		t.Log(s.log.String())
	}
}

// behaviour is one exchange, written as bytes. HOST and TOKEN stand for what differs.
type behaviour struct {
	name     string
	raw      string
	contains string // what the direct answer must hold, so that the case tests what it says
	// send replaces writing raw: for requests that react to what comes back.
	send func(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string
	// slow answers with half of a body of known length, and goes on when that has come.
	slow bool
	// waits for what the backend says of the request's body, where no answer comes.
	aside bool
}

func (b behaviour) run(t *testing.T, s *stage, backend *observer, base string) string {
	t.Helper()
	u, err := url.Parse(base)
	relaytest.Must(t, err)
	conn, err := net.Dial("tcp", u.Host)
	relaytest.Must(t, err)
	defer conn.Close()
	relaytest.Must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	backendHost, _ := url.Parse(s.direct)
	host := u.Host
	if base == s.direct {
		host = backendHost.Host
	}
	raw := strings.NewReplacer("HOST", host, "TOKEN", s.token).Replace(b.raw)
	in := bufio.NewReader(conn)
	send := b.send
	if b.slow {
		send = func(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string {
			t.Helper()
			return halves(conn, in, raw, backend.resume)
		}
	}
	if send == nil {
		send = plainly
	}
	out := send(t, conn, in, raw)
	if b.aside {
		select {
		case seen := <-backend.bodies:
			out += "\nbackend: " + seen
		case <-time.After(10 * time.Second):
			out += "\nbackend: nothing"
		}
	}
	return out
}

// plainly writes the request and reads answers until the final one.
func plainly(t *testing.T, conn net.Conn, in *bufio.Reader, raw string) string {
	t.Helper()
	go func() { _, _ = io.WriteString(conn, raw) }() // an early answer may end the connection meanwhile
	method, _, _ := strings.Cut(raw, " ")
	return answers(in, method)
}

// halves lets the backend go on when the first half of the body is there.
func halves(conn net.Conn, in *bufio.Reader, raw string, resume chan<- struct{}) string {
	go func() { _, _ = io.WriteString(conn, raw) }()
	resp, err := http.ReadResponse(in, &http.Request{Method: "GET"})
	first := make([]byte, 5)
	if err == nil {
		_, err = io.ReadFull(resp.Body, first)
	}
	resume <- struct{}{}
	if err != nil {
		return "no first half: " + kind(err)
	}
	return string(first) + dump(resp)
}

func answers(in *bufio.Reader, method string) string {
	var out strings.Builder
	for {
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return out.String() + "no answer: " + kind(err)
		}
		out.WriteString(dump(resp))
		if resp.StatusCode >= 200 {
			return out.String()
		}
	}
}

// kind is an error without its addresses.
func kind(err error) string {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return "timeout"
	}
	return "broken off"
}

// dump is everything about an answer but its date and the relay's own fields.
func dump(resp *http.Response) string {
	body, err := io.ReadAll(resp.Body)
	var out strings.Builder
	fmt.Fprintf(&out, "%d length=%d transfer=%v\n", resp.StatusCode, resp.ContentLength, resp.TransferEncoding)
	h := resp.Header.Clone()
	if h.Get("Date") == "" && resp.StatusCode >= 200 {
		out.WriteString("no date\n")
	}
	for _, name := range []string{"Date", "Obo-Id"} {
		delete(h, name)
	}
	out.WriteString(lines(h))
	text := string(body)
	if len(body) > 40_000 {
		text = fmt.Sprintf("%d bytes %x", len(body), sha256.Sum256(body))
	}
	fmt.Fprintf(&out, "body %q\n", text)
	if err != nil {
		out.WriteString("the body broke off\n")
	}
	out.WriteString("trailer\n" + lines(resp.Trailer))
	return out.String()
}

func lines(h http.Header) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			fmt.Fprintf(&out, "  %s: %q\n", name, v)
		}
	}
	return out.String()
}

// observer is the backend.
type observer struct {
	bodies chan string   // what it saw of bodies whose sender does not wait
	resume chan struct{} // lets /slow go on
}

// seen describes a request, without what the relay adds or drops on purpose.
func seen(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	h := r.Header.Clone()
	for name := range h {
		if strings.HasPrefix(name, "X-Forwarded-") {
			delete(h, name)
		}
	}
	for _, name := range []string{"X-Request-Id", "Connection", "Te", "Authorization", "Keep-Alive", "Expect"} {
		delete(h, name)
	}
	if r.ContentLength == 0 {
		delete(h, "Content-Length") // every proxy says 0 where nothing was said
	}
	text := string(body)
	if len(body) > 1000 {
		text = fmt.Sprintf("%d bytes %x", len(body), sha256.Sum256(body))
	}
	return fmt.Sprintf("%s %s length=%d transfer=%v error=%v\n%s%q\ntrailer\n%s", r.Method, r.RequestURI, r.ContentLength, r.TransferEncoding, err != nil, lines(h), text, lines(r.Trailer))
}

func (o *observer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, seen(r))
	})
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.Header().Set("X-Status", r.PathValue("code"))
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "body of "+r.PathValue("code"))
	})
	mux.HandleFunc("/empty/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["X-Repeated"] = []string{"one", "two", "", "three, four"}
		h["X-Empty"] = []string{""}
		h["X-Latin"] = []string{"caf\xe9"}
		h["X-Utf8"] = []string{"café ☕"}
		h["X-Tab"] = []string{"a\tb"}
		h["X-Long"] = []string{strings.Repeat("v", 16<<10)}
		h["Set-Cookie"] = []string{"a=1; Path=/; HttpOnly", "b=2; Secure; SameSite=Lax", "c=\"quoted\""}
		h["Www-Authenticate"] = []string{`Basic realm="x"`, "Negotiate"}
		h["Server"] = []string{"backend/1.0"}
		h["Vary"] = []string{"Accept", "Cookie"}
		h["Link"] = []string{"</style.css>; rel=preload"}
		h["Cache-Control"] = []string{"no-store"}
		h["Etag"] = []string{`W/"x"`}
		h["Content-Language"] = []string{"de"}
		h["Access-Control-Allow-Origin"] = []string{"*"}
	})
	mux.HandleFunc("/redirect/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		http.Redirect(w, r, "http://elsewhere.example/x?y=1#z", code)
	})
	mux.HandleFunc("/length", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100000))
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, r *http.Request) {
		for i := range 5 {
			_, _ = fmt.Fprintf(w, "chunk %d\n", i)
			_ = http.NewResponseController(w).Flush()
		}
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Declared, X-Unset")
		_, _ = io.WriteString(w, "with trailers")
		w.Header().Set("X-Declared", "d")
		w.Header().Set(http.TrailerPrefix+"X-Late", "l")
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "</b.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusProcessing)
		_, _ = io.WriteString(w, seen(r))
	})
	mux.HandleFunc("/many-hints", func(w http.ResponseWriter, r *http.Request) {
		for range 1000 {
			w.WriteHeader(http.StatusEarlyHints)
		}
		_, _ = io.WriteString(w, "after many hints")
	})
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "compressed, and passed on as it is; asked for "+r.Header.Get("Accept-Encoding"))
		_ = z.Close()
	})
	mux.HandleFunc("/untyped", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>not to be guessed")
	})
	mux.HandleFunc("/untyped-stream", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>not to be guessed")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "<html>either")
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "too much", http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/unread", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "did not read") })
	mux.HandleFunc("/aside", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, err := io.Copy(io.Discard, r.Body)
		o.bodies <- fmt.Sprintf("broken off: %v", err != nil)
	})
	mux.HandleFunc("/die", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("length") != "" {
			w.Header().Set("Content-Length", "1000")
		}
		_, _ = io.WriteString(w, "the beginning")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-o.resume
		_, _ = io.WriteString(w, "later")
	})
	mux.HandleFunc("/range", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x.txt", time.Unix(1e9, 0), strings.NewReader(strings.Repeat("0123456789", 100)))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/any") { // ServeMux would redirect what it finds unclean
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = io.WriteString(w, seen(r))
			return
		}
		mux.ServeHTTP(w, r)
	})
}
