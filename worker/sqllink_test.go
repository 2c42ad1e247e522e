package worker_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// hostileWorkspace says that every result is where link says.
func hostileWorkspace(t *testing.T, link func(own string) map[string]any, storage http.HandlerFunc) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	var server *httptest.Server
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("POST "+statements, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"statement_id": "s-1", "status": map[string]any{"state": "PENDING"}})
	})
	links := func() []any {
		l := link(server.URL)
		l["chunk_index"], l["row_count"] = 0, 1
		return []any{l}
	}
	mux.HandleFunc("GET "+statements+"/s-1", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"result": map[string]any{"external_links": links()}, "statement_id": "s-1", "status": map[string]any{"state": "SUCCEEDED"},
			"manifest": map[string]any{"total_chunk_count": 1, "total_row_count": 1, "schema": map[string]any{"columns": []any{map[string]any{"name": "a"}}}},
		})
	})
	mux.HandleFunc("GET "+statements+"/s-1/result/chunks/0", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"external_links": links()})
	})
	mux.HandleFunc("/storage", storage)
	server = httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func serveRow(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		http.Error(w, "a token came along", http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, `[["stolen"]]`)
}

// A link leads to the public network, or to the workspace itself, and takes no token along.
func TestSQLLinksAreNotTrusted(t *testing.T) {
	var hits atomic.Int64
	private := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hits.Add(1); serveRow(w, r) }))
	private.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	private.StartTLS()
	t.Cleanup(private.Close)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hits.Add(1); serveRow(w, r) }))
	t.Cleanup(plain.Close)
	at, err := url.Parse(private.URL)
	relaytest.Must(t, err)
	token := jwt("alice")
	for name, c := range map[string]struct {
		link    string
		headers map[string]string
		ok      bool
		text    string
	}{
		"the workspace itself":     {link: "OWN/storage?sig=1", ok: true},
		"with headers":             {link: "OWN/storage", headers: map[string]string{"x-amz-server-side-encryption-customer-key": "k", "Authorization": "Basic x", "Cookie": "c"}, ok: true},
		"loopback":                 {link: private.URL, text: "private address"},
		"localhost":                {link: "https://localhost:" + at.Port(), text: "private address"},
		"http":                     {link: plain.URL, text: "not https"},
		"metadata service":         {link: "http://169.254.169.254/metadata/identity", text: "not https"},
		"metadata service, https":  {link: "https://169.254.169.254/metadata/identity", text: "private address"},
		"private network":          {link: "https://10.0.0.1/", text: "private address"},
		"an IPv4 address in IPv6":  {link: "https://[::ffff:127.0.0.1]:" + at.Port(), text: "private address"},
		"the worker, by all zeros": {link: "https://0.0.0.0:" + at.Port(), text: "private address"},
		"octal":                    {link: "https://0177.0.0.1:" + at.Port()},
		"other port":               {link: "http://" + strings.TrimPrefix(plain.URL, "http://") + "/storage", text: "not https"},
		"user":                     {link: "https://u:p@127.0.0.1/", text: "user name"},
		"file":                     {link: "file:///etc/passwd", text: "cannot be read"},
		"no host":                  {link: "/storage", text: "cannot be read"},
		"nothing":                  {link: "", text: "cannot be read"},
		"the token in the link":    {link: "OWN/storage?t=" + token, text: "the person's token"},
		"the token in a header":    {link: "OWN/storage", headers: map[string]string{"X-Key": token}, text: "the person's token"},
		"a redirect":               {link: "OWN/storage?to=" + url.QueryEscape(private.URL), text: "302"},
	} {
		t.Run(name, func(t *testing.T) {
			ws := hostileWorkspace(t, func(own string) map[string]any {
				return map[string]any{"external_link": strings.Replace(c.link, "OWN", own, 1), "http_headers": c.headers}
			}, func(w http.ResponseWriter, r *http.Request) {
				if to := r.FormValue("to"); to != "" {
					http.Redirect(w, r, to, http.StatusFound)
					return
				}
				if r.Header.Get("Cookie") != "" || len(c.headers) > 1 && r.Header.Get("X-Amz-Server-Side-Encryption-Customer-Key") != "k" {
					http.Error(w, "wrong headers", http.StatusBadRequest)
					return
				}
				serveRow(w, r)
			})
			log := &logBuffer{}
			s := newStageOn(t, ws.URL, nil, log, worker.RoutesConfig{Warehouse: "w1", RetryTimeout: 1})
			a := s.call("POST", "/.obo/sql", token, statement("SELECT 1"))
			if c.ok != (a.body == `{"a":"stolen"}`+"\n") || !c.ok && a.code(t) != relay.CodeWorkspaceFailed || !strings.Contains(a.text(), c.text) {
				t.Errorf("%+v", a)
			}
			if strings.Contains(log.String()+a.text(), "sig=") || strings.Contains(log.String()+a.text(), token) {
				t.Errorf("a secret is in the log or the answer:\n%s\n%s", log, a.text())
			}
		})
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("%d requests reached what is private", n)
	}
	// A host that the operator names may be private; its certificate is still verified.
	ws := hostileWorkspace(t, func(string) map[string]any { return map[string]any{"external_link": private.URL} }, serveRow)
	s := newStageOn(t, ws.URL, nil, &logBuffer{}, worker.RoutesConfig{Warehouse: "w1", RetryTimeout: 1, LinkHosts: []string{at.Host}})
	if a := s.call("POST", "/.obo/sql", token, statement("SELECT 1")); !strings.Contains(a.text(), "cannot be reached") || hits.Load() != 0 {
		t.Errorf("%+v", a)
	}
}

// What the storage sends is bounded and checked.
func TestSQLStorageIsNotTrusted(t *testing.T) {
	for name, body := range map[string]string{
		"not JSON": "<Error>", "an object": `{"a":[["1"]]}`, "too many values": `[["1","2"]]`, "too few": `[[]]`, "nested": `[[["1"]]]`,
		"two rows": `[["1"],["2"]]`, "none": `[]`, "null": `null`, "cut off": `[["1"`, "more after it": `[["1"]] [["2"]]`, "not UTF-8": "[[\"\xff\"]]", "empty": "",
	} {
		ws := hostileWorkspace(t, func(own string) map[string]any { return map[string]any{"external_link": own + "/storage"} },
			func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		s := newStageOn(t, ws.URL, nil, &logBuffer{}, worker.RoutesConfig{Warehouse: "w1"})
		if a := s.call("POST", "/.obo/sql", jwt("alice"), statement("SELECT 1")); a.code(t) != relay.CodeWorkspaceFailed {
			t.Errorf("%s: %+v", name, a)
		}
	}
	ws := hostileWorkspace(t, func(own string) map[string]any { return map[string]any{"external_link": own + "/storage"} },
		func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `[["`)
			for block := strings.Repeat("x", 1<<20); ; {
				if _, err := io.WriteString(w, block); err != nil {
					return
				}
			}
		})
	s := newStageOn(t, ws.URL, nil, &logBuffer{}, worker.RoutesConfig{Warehouse: "w1"})
	if a := s.call("POST", "/.obo/sql", jwt("alice"), statement("SELECT 1")); a.code(t) != relay.CodeWorkspaceFailed || !strings.Contains(a.text(), "a row is over 64 MiB") {
		t.Errorf("an endless row: %+v", a)
	}
}
