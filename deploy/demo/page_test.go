package demo

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

const pageHost = "127.0.0.1:7777"

// newTestPage is the page on a stage of its own.
func newTestPage(t *testing.T) (http.Handler, *Stage) {
	t.Helper()
	s := newStage(t)
	files := newTokenFiles(s)
	if err := files.write(); err != nil {
		t.Fatal(err)
	}
	return newPage(s, newCommands(s, files, "obo"), pageHost), s
}

// ask serves one request of the page's own browser, with headers added or replaced.
func ask(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host = pageHost
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wholeToken finds what could be used as one.
var wholeToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{16,}`)

func TestPageCalls(t *testing.T) {
	h, s := newTestPage(t)
	for _, test := range []struct {
		visitor  string
		attempts string // status and state of each
		relay    string
	}{
		{VisitorAlice, "200 lost, 200 lost, 403 lost", "200 arrived, 200 arrived, 200 arrived"},
		{VisitorBob, "200 lost, 200 lost, 403 lost", "200 arrived, 200 arrived, 403 denied"},
		{VisitorExpired, "302 lost, 302 lost, 403 lost", "401 refused"},
		{VisitorNoScope, "200 lost, 200 lost, 403 lost", "403 refused"},
	} {
		w := ask(h, "POST", "/api/calls?visitor="+test.visitor)
		var got struct{ Attempts, Relay []pageCall }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %v: %s", test.visitor, w.Code, err, w.Body)
		}
		if a := summary(got.Attempts); a != test.attempts {
			t.Errorf("%s: attempts %s, want %s", test.visitor, a, test.attempts)
		}
		if r := summary(got.Relay); r != test.relay {
			t.Errorf("%s: relay %s, want %s", test.visitor, r, test.relay)
		}
		if found := wholeToken.FindString(w.Body.String()); found != "" {
			t.Errorf("%s: a token on the page: %s", test.visitor, found)
		}
	}
	for _, token := range s.tokens.all() {
		if !wholeToken.MatchString(token) {
			t.Errorf("the search for tokens would not have found %s", token)
		}
	}
	if w := ask(h, "POST", "/api/calls?visitor=mallory"); w.Code != http.StatusNotFound {
		t.Errorf("an unknown visitor: %d", w.Code)
	}
}

func summary(calls []pageCall) string {
	var list []string
	for _, c := range calls {
		list = append(list, fmt.Sprintf("%d %s", c.Status, c.State))
	}
	return strings.Join(list, ", ")
}

func TestPageIsForItsOwnBrowser(t *testing.T) {
	h, _ := newTestPage(t)
	for _, test := range []struct {
		name, method, target string
		header               []string
		want                 int
	}{
		{"page", "GET", "/", nil, 200},
		{"page from a link elsewhere", "GET", "/", []string{"Sec-Fetch-Site", "cross-site"}, 200},
		{"script", "GET", "/page.js", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"localhost", "GET", "/page.css", []string{"Host", "localhost:7777"}, 200},
		{"other file", "GET", "/main.go", nil, 404},
		{"call by GET", "GET", "/api/calls?visitor=alice", nil, 404},
		{"DNS rebinding", "GET", "/api/stage", []string{"Host", "evil.example:7777"}, 403},
		{"other port", "GET", "/api/stage", []string{"Host", "127.0.0.1:1"}, 403},
		{"script tag elsewhere", "GET", "/api/stage", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"other port's page", "GET", "/api/messages", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"form elsewhere", "POST", "/api/calls?visitor=alice", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"old browser's form elsewhere", "POST", "/api/calls?visitor=alice", []string{"Origin", "http://evil.example"}, 403},
	} {
		w := ask(h, test.method, test.target, test.header...)
		if w.Code != test.want {
			t.Errorf("%s: %d, want %d", test.name, w.Code, test.want)
		}
		if test.want == 200 && !strings.HasPrefix(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no content security policy", test.name)
		}
	}
	if body := ask(h, "GET", "/").Body.String(); !strings.Contains(body, "SANDBOX") {
		t.Error("the page does not say that it is a sandbox")
	}
}

func TestPageNeedsNothingElse(t *testing.T) {
	t.Parallel()
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9]|url\(|@import|innerHTML`)
	err := fs.WalkDir(pageFiles, "page", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(pageFiles, path)
		if found := elsewhere.Find(text); found != nil {
			t.Errorf("%s: %s", path, found)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPageCommands(t *testing.T) {
	h, s := newTestPage(t)
	var about struct{ Visitors []visitor }
	w := ask(h, "GET", "/api/stage")
	if err := json.Unmarshal(w.Body.Bytes(), &about); err != nil || len(about.Visitors) != len(visitors()) {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if wholeToken.MatchString(w.Body.String()) {
		t.Error("a token in a command")
	}
	path := regexp.MustCompile(regexp.QuoteMeta(s.Files.Config.Dir) + `/[a-z0-9/.-]+`)
	for _, v := range about.Visitors {
		for _, c := range v.Commands {
			for _, name := range path.FindAllString(c.Text, -1) {
				if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s, %s: %s: %v", v.Name, c.Title, name, err)
				}
			}
			if lines := strings.Count(c.Text, "\n") + 1; c.Title == "Python" && lines != 5 {
				t.Errorf("%d lines of Python", lines)
			}
		}
	}
	for visitor, want := range map[string]int{VisitorAlice: 200, VisitorBob: 200, VisitorExpired: 401, VisitorNoScope: 403} {
		if got := asCurl(t, s, newTokenFiles(s).header(visitor)); got != want {
			t.Errorf("%s: %d, want %d", visitor, got, want)
		}
	}
}

// asCurl calls the sidecar with a header file, as curl -H @FILE does.
func asCurl(t *testing.T, s *Stage, file string) int {
	t.Helper()
	line, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ": ")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Sidecar+"/groups", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(name, value)
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestPageMessages(t *testing.T) {
	h, s := newTestPage(t)
	server := httptest.NewServer(h)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/messages", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = pageHost
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := s.Call(t.Context(), VisitorBob, WayRelay, "/groups")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	lines := bufio.NewScanner(resp.Body)
	for !seen["reply"] && lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var m pageMessage
		if err := json.Unmarshal([]byte(data), &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind == "announce" || m.Header["Obo-Id"] == answer.Request {
			seen[m.Kind] = m.Size > 0 && m.Dump != ""
		}
	}
	for _, kind := range []string{"announce", "request", "reply"} {
		if !seen[kind] {
			t.Errorf("no %s was sent", kind)
		}
	}
}
