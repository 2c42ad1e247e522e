package relaytest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// canaries are words that stand for a person's data. Each has characters that every encoding changes.
var canaries = map[string]string{
	"token":    "CANARY+token/7f3a~",
	"body":     "CANARY body?<51c9>/",
	"query":    "CANARY&query=e2b4/",
	"header":   "CANARY header;d08f",
	"response": "CANARY-response:9a6e>",
	"reply":    "CANARY reply header 44d1",
	"trailer":  "CANARY trailer 8b70",
	"panic":    "CANARY panic c3e5",
}

// spelled are the ways in which a word may stand in bytes: as it is, URL-encoded, in JSON, in hexadecimal, and in base64 at
// each of its three alignments, in both alphabets.
func spelled(word string) map[string]string {
	quoted, _ := json.Marshal(word)
	out := map[string]string{
		"raw": word, "query escape": url.QueryEscape(word), "path escape": url.PathEscape(word), "JSON": strings.Trim(string(quoted), `"`),
		"hex": hex.EncodeToString([]byte(word)),
	}
	for shift := range 3 {
		padded := append(make([]byte, shift), word...)
		padded = padded[:len(padded)/3*3] // whole groups
		first := (shift*8 + 5) / 6        // characters before also hold bits of what stands in front
		out[fmt.Sprint("base64 at ", shift)] = base64.StdEncoding.EncodeToString(padded)[first:]
		out[fmt.Sprint("base64url at ", shift)] = base64.URLEncoding.EncodeToString(padded)[first:]
	}
	return out
}

// search looks for every canary in every spelling, and returns what it found.
func search(where map[string][]byte) (found []string) {
	for place, data := range where {
		for name, word := range canaries {
			for how, text := range spelled(word) {
				if bytes.Contains(data, []byte(text)) {
					found = append(found, fmt.Sprintf("%s: %s, %s", place, name, how))
				}
			}
		}
	}
	return found
}

// The search itself finds what is there.
func TestSearchFindsCanaries(t *testing.T) {
	t.Parallel()
	for name, word := range canaries {
		for prefix := range 6 {
			text := strings.Repeat("x", prefix) + word + "tail"
			quoted, err := json.Marshal(text)
			relaytest.Must(t, err)
			for how, data := range map[string]string{
				"raw": text, "base64": base64.StdEncoding.EncodeToString([]byte(text)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(text)),
				"query": url.QueryEscape(text), "path": url.PathEscape(text), "JSON": string(quoted), "hex": hex.EncodeToString([]byte(text)),
			} {
				if len(search(map[string][]byte{"control": []byte("…" + data + "…")})) == 0 {
					t.Errorf("%s after %d bytes in %s is not found", name, prefix, how)
				}
			}
		}
	}
	if found := search(map[string][]byte{"nothing": []byte("CANARY")}); len(found) != 0 {
		t.Errorf("found %v", found)
	}
}

// canaryToken is a JWT that carries the canary in its payload; and the token as a whole is one too.
func canaryToken(t *testing.T, expiry time.Time) string {
	t.Helper()
	payload, err := json.Marshal(map[string]any{"sub": canaries["token"], "exp": expiry.Unix()})
	relaytest.Must(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + "." + encode([]byte(canaries["token"]))
}

// canaryHandler answers with canaries everywhere, and fails in every way.
func canaryHandler(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), canaries["body"]) || r.Header.Get("X-Canary") != canaries["header"] || !strings.Contains(r.URL.RawQuery, url.QueryEscape(canaries["query"])) {
			t.Errorf("the canaries did not arrive: %d bytes, %v, %q", len(body), r.Header, r.URL.RawQuery)
		}
		w.Header().Set("X-Canary", canaries["reply"])
		switch r.URL.Path {
		case "/panic":
			panic(canaries["panic"])
		case "/short":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, canaries["response"])
		case "/fail":
			worker.Fail(w, relay.Wrap(relay.CodeUpstreamFailed, errors.New("cause"), "it failed"))
		case "/stream":
			for range 50 {
				_, _ = io.WriteString(w, strings.Repeat(canaries["response"], 200))
				w.(http.Flusher).Flush()
			}
			w.Header().Set(http.TrailerPrefix+"X-Sum", canaries["trailer"])
		case "/early":
			w.Header().Set("Link", canaries["reply"])
			w.WriteHeader(103)
			_, _ = io.WriteString(w, canaries["response"])
		default:
			_, _ = io.WriteString(w, canaries["response"])
		}
	})
}

// No byte of a token, query, header, body or response is anywhere where whoever runs the broker, or reads a log, can look:
// the messages that a subscriber on > sees, every byte that either end sends, the broker's disk, all logs at debug level,
// audit records, error texts and problem documents, the broker's monitoring pages, and the counters of the micro service.
func TestCanary(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"text", "json"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			log, audit, store := new(relaytest.Log), new(relaytest.Log), t.TempDir()
			n := relaytest.NewWith(t, log, relaytest.Options{
				Conf:   func(c *natsconf.Config) { c.StoreDir = store },
				Broker: func(c *broker.Config) { c.MonitorPort = -1 },
				LogHandler: func(w io.Writer) slog.Handler {
					if form == "json" {
						return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true})
					}
					return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
				},
			})
			tap := n.Tap(n.Inspector, ">", nats.CustomInboxPrefix(natsconf.InspectorInbox))
			// Whoever runs the broker keeps everything on its disk, and all that the ends send, down to the last byte.
			js, err := n.Connect(n.Root).JetStream()
			relaytest.Must(t, err)
			_, err = js.AddStream(&nats.StreamConfig{Name: "KEPT", Subjects: []string{"obo.v1.>"}, NoAck: true})
			relaytest.Must(t, err)
			ofWorker, ofPublisher := n.Door().Record(), n.Door().Record()
			w, _ := n.Worker(canaryHandler(t), func(c *worker.Config) { c.NATS.URL, c.Audit = ofWorker.URL, worker.AuditTo(audit) })
			client := n.Publisher(func(c *publisher.Config) { c.NATS.URL = ofPublisher.URL })
			server := sidecar(t, client)
			places := map[string][]byte{}
			note := func(place string, got reply) {
				if got.err != nil {
					var e *relay.Error
					errors.As(got.err, &e)
					problem, err := json.Marshal(e)
					relaytest.Must(t, err)
					places[place] = fmt.Appendf(nil, "%v %+v %#v %q %s", got.err, got.err, got.err, got.err, problem)
					return
				}
				if got.StatusCode >= 400 {
					places[place] = []byte(got.body)
				}
			}
			tokens := map[string]string{
				"good": canaryToken(t, tomorrow()), "expired": canaryToken(t, time.Now().Add(-time.Hour)), "opaque": strings.ReplaceAll(canaries["token"], " ", ""),
				"malformed": canaries["token"] + "\x01", "long": strings.Repeat(canaries["token"], 1000),
			}
			for name, token := range tokens {
				for _, path := range []string{"/", "/panic", "/short", "/fail", "/stream", "/early", "//x", "/%2f"} {
					for _, size := range []int{0, 100_000} {
						for _, via := range []string{"transport", "sidecar"} {
							r, err := http.NewRequestWithContext(t.Context(), "POST", "http://middleware"+path, strings.NewReader(canaries["body"]+strings.Repeat("x", size)+canaries["body"]))
							relaytest.Must(t, err)
							r.URL.RawQuery = "q=" + url.QueryEscape(canaries["query"])
							r.Header = http.Header{"X-Forwarded-Access-Token": {token}, "X-Canary": {canaries["header"]}}
							var rt http.RoundTripper = client
							if via == "sidecar" {
								r.URL.Host, r.Host = server.Listener.Addr().String(), ""
								rt = sidecarClient(t).Transport
								if name == "malformed" { // a client does not send it
									continue
								}
							}
							got := do(rt, r)
							if e := new(relay.Error); via == "sidecar" && got.err != nil && !errors.As(got.err, &e) {
								got.err = nil // a connection broken on purpose
								continue
							}
							note(strings.Join([]string{"error", name, path, via}, " "), got)
						}
					}
				}
			}
			// Messages that are answered unsealed, and one that is refused for its hints.
			for _, m := range tap.On(".req.") {
				forged := relaytest.Copy(m)
				forged.Header.Set("Obo-Method", "DELETE")
				relaytest.Must(t, n.Connect(n.Root).PublishMsg(forged))
				break
			}
			for _, page := range []string{"/varz", "/connz?subs=1&auth=1", "/connz?subs=detail", "/subsz?subs=1", "/routez?subs=1", "/accountz", "/accstatz", "/healthz", "/jsz", "/leafz", "/gatewayz"} {
				resp, err := sidecarClient(t).Get(n.Broker.MonitorURL() + page)
				relaytest.Must(t, err)
				body, err := io.ReadAll(resp.Body)
				relaytest.Must(t, err)
				relaytest.Must(t, resp.Body.Close())
				if resp.StatusCode != 200 || len(body) < 10 {
					t.Errorf("%s: %s", page, resp.Status)
				}
				places[page] = body
			}
			for _, verb := range []string{"PING", "INFO", "STATS"} {
				m, err := tap.Conn.Request("$SRV."+verb+".obo-middleware."+w.Instance(), nil, relaytest.Patience)
				relaytest.Must(t, err)
				places["micro "+verb] = m.Data
			}
			tap.Flush()
			var seen bytes.Buffer
			for _, m := range tap.All() {
				fmt.Fprintf(&seen, "%s %s %v %s\n", m.Subject, m.Reply, m.Header, m.Data)
			}
			places["all messages"] = seen.Bytes()
			places["all logs"] = []byte(log.String())
			places["audit records"] = []byte(audit.String())
			places["what the worker sent"], places["what the publisher sent"] = ofWorker.Spoken(), ofPublisher.Spoken()
			kept, err := js.StreamInfo("KEPT")
			relaytest.Must(t, err)
			stored := 0
			relaytest.Must(t, filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				places[path], err = os.ReadFile(path)
				stored += len(places[path])
				return err
			}))
			if kept.State.Msgs < 100 || uint64(stored) < kept.State.Bytes/2 || len(places["what the worker sent"]) < 1<<19 || len(places["what the publisher sent"]) < 1<<19 || strings.Count(audit.String(), "/stream") < 2 {
				t.Errorf("%d messages of %d bytes kept, %d bytes stored, %d and %d bytes sent, audit records of %d bytes: the search looked at the wrong place",
					kept.State.Msgs, kept.State.Bytes, stored, len(places["what the worker sent"]), len(places["what the publisher sent"]), len(audit.String()))
			}
			for _, hit := range search(places) {
				t.Error(hit)
			}
			// The control: the search would have hit, since what was searched is what there was.
			if len(tap.On(".req.")) < 20 || seen.Len() < 1<<20 || strings.Count(log.String(), "request") < 20 {
				t.Errorf("%d requests, %d bytes seen, log of %d bytes", len(tap.On(".req.")), seen.Len(), len(log.String()))
			}
			if !bytes.Contains(seen.Bytes(), []byte("/stream")) || !strings.Contains(log.String(), "/stream") || !strings.Contains(string(places["/connz?subs=1&auth=1"]), w.Instance()) {
				t.Error("what may be seen is not there either: the search looked at the wrong place")
			}
			if found := search(map[string][]byte{"control": append(seen.Bytes(), canaries["body"]...)}); len(found) == 0 {
				t.Error("the control is not found")
			}
			if _, err := tap.Conn.Request("$SRV.PING.obo-middleware", nil, relaytest.Patience); err != nil {
				t.Error(err)
			}
		})
	}
}

// With hints switched off not even method and path are seen.
func TestHintsNone(t *testing.T) {
	for _, level := range []relay.Hints{relay.HintsFull, relay.HintsMinimal, relay.HintsNone} {
		t.Run(string(level), func(t *testing.T) {
			n, _ := start(t)
			tap := n.Tap(n.Inspector, "obo.v1.>")
			n.Worker(says("hello"), func(c *worker.Config) { c.Hints = level })
			client := n.Publisher(withHints(level))
			send(t, client, "PROPFIND", "/a/path").want(t, 200, "hello")
			request, answer := tap.Wait(".req.", 1), tap.Wait(".rep.", 1)
			for header, want := range map[string]bool{"Obo-Id": level != relay.HintsNone, "Obo-Method": level == relay.HintsFull, "Obo-Path": level == relay.HintsFull} {
				if got := request.Header.Get(header) != ""; got != want {
					t.Errorf("request: %s: %v", header, request.Header)
				}
			}
			if got := answer.Header.Get("Obo-Status"); (got == "200") != (level != relay.HintsNone) {
				t.Errorf("reply: %v", answer.Header)
			}
			if level == relay.HintsNone {
				for _, m := range tap.All() {
					if len(m.Header) != 0 {
						t.Errorf("%s has %v", m.Subject, m.Header)
					}
				}
			}
		})
	}
}
