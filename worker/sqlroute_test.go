package worker_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

const (
	statements = "/api/2.0/sql/statements"
	alice      = "alice@example.com"
	bob        = "bob@example.com"
)

func statement(text string) string {
	b, _ := json.Marshal(map[string]any{"statement": text})
	return string(b)
}

func (s *stage) sql(who, body string, header ...string) answer {
	s.t.Helper()
	return s.call("POST", "/.obo/sql", s.token(who, sandbox.TokenOptions{}), body, header...)
}

// inEachWay runs a test with results over links and inline.
func inEachWay(t *testing.T, test func(*testing.T, *stage)) {
	for _, inline := range []bool{false, true} {
		t.Run(fmt.Sprintf("inline=%v", inline), func(t *testing.T) {
			s := newStage(t, func(_ *sandbox.Config, c *worker.RoutesConfig) { c.Inline = inline })
			test(t, s)
			s.onlyThePerson()
		})
	}
}

func TestSQLRowsDifferByPerson(t *testing.T) {
	inEachWay(t, func(t *testing.T, s *stage) {
		for who, want := range map[string]string{
			alice: `{"region":"emea","amount":10}` + "\n", bob: `{"region":"amer","amount":20}` + "\n",
		} {
			a := s.sql(who, `{"statement":"SELECT * FROM sales","schema":"demo"}`)
			if a.status != 200 || a.body != want || a.header.Get("Content-Type") != "application/x-ndjson" {
				t.Errorf("%s: %+v", who, a)
			}
			if a.header.Get("Sql-Row-Count") != "1" || a.header.Get("Sql-Truncated") != "false" || a.header.Get("Sql-Statement-Id") == "" ||
				a.header.Get("Sql-Columns") != `[{"name":"region","type":"STRING"},{"name":"amount","type":"BIGINT"}]` {
				t.Errorf("%v", a.header)
			}
			if a := s.sql(who, statement("SELECT current_user()")); a.body != `{"current_user()":"`+who+`"}`+"\n" {
				t.Errorf("%+v", a)
			}
		}
	})
}

func TestSQLValues(t *testing.T) {
	inEachWay(t, func(t *testing.T, s *stage) {
		want := `{"a":"","a_2":null,"n\"é":"NaN","d":"1.50"}` + "\n" + `{"a":"x,\"y\"\n","a_2":"ü€😀","n\"é":-1.5E-3,"d":null}` + "\n"
		a := s.sql(alice, statement("SELECT * FROM odd"))
		if a.body != want {
			t.Errorf("got  %s\nwant %s", a.body, want)
		}
		if columns := a.header.Get("Sql-Columns"); !strings.Contains(columns, `{"name":"n\"\u00e9","type":"DOUBLE"}`) {
			t.Errorf("%s", columns)
		}
		a = s.sql(alice, statement("SELECT * FROM odd"), "Accept", "text/csv")
		want = "a,a_2,\"n\"\"é\",d\r\n\"\",,NaN,1.50\r\n\"x,\"\"y\"\"\n\",ü€😀,-1.5E-3,\r\n"
		if a.body != want || a.header.Get("Content-Type") != "text/csv; charset=utf-8; header=present" {
			t.Errorf("got  %q\nwant %q", a.body, want)
		}
		a = s.sql(alice, `{"statement":"SELECT :a, :b","parameters":[{"name":"a","value":"7","type":"INT"},{"name":"b"}],"warehouse_id":"w1","catalog":"main"}`)
		if a.body != `{":a":7,":b":null}`+"\n" {
			t.Errorf("%+v", a)
		}
		a = s.sql(alice, `{"statement":"SELECT id FROM range(5000)","row_limit":1500}`)
		if strings.Count(a.body, "\n") != 1500 || a.header.Get("Sql-Truncated") != "true" {
			t.Errorf("row_limit: %v, %d lines", a.header, strings.Count(a.body, "\n"))
		}
		for _, text := range []string{"INSERT INTO x VALUES (1)", "SELECT * FROM range(0)"} {
			if a := s.sql(alice, statement(text)); a.status != 200 || a.body != "" || a.header.Get("Sql-Row-Count") != "0" {
				t.Errorf("%s: %+v", text, a)
			}
		}
	})
}

func TestSQLAnyNumberOfChunks(t *testing.T) {
	inEachWay(t, func(t *testing.T, s *stage) {
		for _, rows := range []int{1, 999, 1000, 1001, 12_345} {
			a := s.sql(alice, statement(fmt.Sprintf("SELECT * FROM range(%d)", rows)))
			lines := bufio.NewScanner(strings.NewReader(a.body))
			n := 0
			for ; lines.Scan(); n++ {
				want := fmt.Sprintf(`{"id":%d,"name":"row-%d","half":%v,"even":%v}`, n, n, float64(n)/2, n%2 == 0)
				if n%10 == 9 {
					want = fmt.Sprintf(`{"id":%d,"name":null,"half":%v,"even":%v}`, n, float64(n)/2, n%2 == 0)
				}
				if lines.Text() != want {
					t.Fatalf("line %d is %s, want %s", n, lines.Text(), want)
				}
			}
			if n != rows || a.err != nil {
				t.Errorf("%d of %d rows, %v", n, rows, a.err)
			}
		}
	})
}

// Before rows have gone out every failure is a problem with a code, and nothing but the person's token is used.
func TestSQLFaults(t *testing.T) {
	const poll = statements + "/"
	type fault = sandbox.Fault
	for name, c := range map[string]struct {
		body       string
		token      sandbox.TokenOptions
		header     []string
		fault      *fault
		code       relay.Code
		status     int
		text       string
		after      time.Duration
		statements int
	}{
		"bad body":            {body: `{"statement":1}`, code: relay.CodeBadRequest, text: "/statement"},
		"bad Accept":          {header: []string{"Accept", "application/json"}, code: relay.CodeBadRequest, text: "text/csv"},
		"too large":           {body: `{"statement":"` + strings.Repeat("a", 3<<20) + `"}`, code: relay.CodeBodyTooLarge},
		"no scope":            {token: sandbox.TokenOptions{Scopes: []string{"iam.current-user:read"}}, code: relay.CodeScopeMissing, text: "the scope sql"},
		"revoked":             {fault: &fault{Status: 401, Times: 1}, code: relay.CodeTokenRejected, text: "workspace request"},
		"says expired":        {fault: &fault{Status: 403, Times: 1, Body: `{"error_code":403,"message":"Invalid access token."}`}, code: relay.CodeTokenRejected},
		"sign-in":             {fault: &fault{SignIn: true, Times: 1}, code: relay.CodeTokenRejected, text: "sign-in page"},
		"forbidden":           {fault: &fault{Status: 403, Times: 1}, status: 403, code: relay.CodeForbidden, text: "workspace request"},
		"not found":           {fault: &fault{Status: 404, Times: 1}, status: 404, code: relay.CodeNotFound},
		"429":                 {fault: &fault{Status: 429, RetryAfter: 7 * time.Second, Times: 1}, code: relay.CodeRateLimited, after: 7 * time.Second},
		"503 at the start":    {fault: &fault{Status: 503, Times: 1}, code: relay.CodeWorkspaceFailed},
		"504 at the start":    {fault: &fault{Status: 504, Times: 1}, code: relay.CodeTimeout},
		"reset at the start":  {fault: &fault{Reset: true, Times: 1}, code: relay.CodeWorkspaceFailed},
		"answer lost":         {fault: &fault{Status: 503, After: true, Times: 1, Method: "POST"}, code: relay.CodeWorkspaceFailed, statements: 1},
		"answer reset":        {fault: &fault{Reset: true, After: true, Times: 1, Method: "POST"}, code: relay.CodeWorkspaceFailed, statements: 1},
		"HTML":                {fault: &fault{Status: 200, Times: 1, Body: "<html>"}, code: relay.CodeWorkspaceFailed},
		"unreadable":          {fault: &fault{Status: 200, Times: 1, Body: "{}"}, code: relay.CodeWorkspaceFailed},
		"warehouse":           {body: `{"statement":"SELECT 1","warehouse_id":"w2"}`, status: 422, code: relay.CodeStatementFailed, text: "w2 is not a valid endpoint id"},
		"syntax":              {body: statement("SELEC 1"), status: 422, code: relay.CodeStatementFailed, text: "PARSE_SYNTAX_ERROR", statements: 1},
		"raised":              {body: statement("SELECT raise_error('no such luck')"), status: 422, code: relay.CodeStatementFailed, text: "no such luck", statements: 1},
		"table forbidden":     {body: statement("SELECT * FROM secret"), status: 403, code: relay.CodeForbidden, text: "does not have SELECT", statements: 1},
		"no such table":       {body: statement("SELECT * FROM nothing"), status: 404, code: relay.CodeNotFound, text: "nothing", statements: 1},
		"rejected while run":  {fault: &fault{Path: poll, Status: 401, Times: 1}, code: relay.CodeWorkspaceFailed, text: "401", statements: 1},
		"sign-in while run":   {fault: &fault{Path: poll, SignIn: true, Times: 1}, code: relay.CodeWorkspaceFailed, text: "sign-in page", statements: 1},
		"forbidden while run": {fault: &fault{Path: poll, Status: 403, Times: 1}, code: relay.CodeWorkspaceFailed, text: "403", statements: 1},
		"400 while run":       {fault: &fault{Path: poll, Status: 400, Times: 1}, code: relay.CodeWorkspaceFailed, text: "400", statements: 1},
		"gone while run":      {fault: &fault{Path: poll, Status: 404, Times: 1}, code: relay.CodeWorkspaceFailed, text: "404", statements: 1},
		"500 while run":       {fault: &fault{Path: poll, Status: 500, Times: 1}, code: relay.CodeWorkspaceFailed, statements: 1},
		"storage forbids":     {fault: &fault{Path: "/sandbox-storage/", Status: 403}, code: relay.CodeWorkspaceFailed, text: "storage", statements: 1},
		"storage redirects":   {fault: &fault{Path: "/sandbox-storage/", SignIn: true}, code: relay.CodeWorkspaceFailed, text: "302", statements: 1},
		"storage is nonsense": {fault: &fault{Path: "/sandbox-storage/", Status: 200, Body: `[["1"]`}, code: relay.CodeWorkspaceFailed, text: "chunk 0", statements: 1},
		"storage is short":    {fault: &fault{Path: "/sandbox-storage/", Status: 200, Body: `[]`}, code: relay.CodeWorkspaceFailed, text: "another number of rows", statements: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, nil)
			if c.fault != nil {
				s.ws.Faults.Add(*c.fault)
			}
			body := c.body
			if body == "" {
				body = statement("SELECT * FROM range(10)")
			}
			token := s.token(bob, c.token)
			a := s.call("POST", "/.obo/sql", token, body, c.header...)
			if code := a.code(t); code != c.code || !strings.Contains(a.text(), c.text) || strings.Contains(a.text(), token) {
				t.Errorf("%s %s, want %s: %s", code, a.text(), c.code, c.text)
			}
			if (c.status != 0) != (a.err == nil) || a.status != c.status {
				t.Errorf("status %d, %v, want %d", a.status, a.err, c.status)
			}
			if e, ok := errors.AsType[*relay.Error](a.err); ok && e.After != c.after {
				t.Errorf("Retry-After %v, want %v", e.After, c.after)
			}
			if n := len(s.ws.Statements()); n != c.statements {
				t.Errorf("%d statements were executed, want %d", n, c.statements)
			}
			if n := submissions(s.ws.Calls()); n > 1 {
				t.Errorf("submitted %d times", n)
			}
			s.onlyThePerson()
		})
	}
}

func submissions(calls sandbox.Calls) (n int) {
	for _, c := range calls {
		if c.Method == "POST" && c.Path == statements {
			n += c.Count
		}
	}
	return n
}

// A failure after the statement was taken is never a proof that nothing happened.
func TestSQLOutcomeIsNotUnderstated(t *testing.T) {
	for _, fault := range []sandbox.Fault{
		{Path: statements + "/", Method: "GET", Status: 401}, {Path: statements, Method: "POST", After: true, Status: 503},
		{Path: statements + "/", Method: "GET", SignIn: true}, {Path: statements + "/", Method: "GET", Status: 500},
		{Path: statements, Method: "POST", After: true, Reset: true},
	} {
		s := newStage(t, nil)
		s.ws.Faults.Add(fault)
		a := s.sql(alice, statement("INSERT INTO x VALUES (1)"))
		if outcome := a.code(t).Info().Outcome; outcome != relay.Unknown || len(s.ws.Statements()) != 1 {
			t.Errorf("%+v: %v, outcome %s, %d statements", fault, a.err, outcome, len(s.ws.Statements()))
		}
	}
}

// A statement that the workspace has closed was executed: its result is gone, and whoever runs it again does so twice.
func TestSQLClosedStatementWasExecuted(t *testing.T) {
	s := newStage(t, nil)
	s.ws.Faults.Add(sandbox.Fault{Path: statements + "/", Method: "GET", Status: 200, Body: `{"status":{"state":"CLOSED"}}`})
	a := s.sql(alice, statement("INSERT INTO x VALUES (1)"))
	if code := a.code(t); a.status != 502 || code != relay.CodeWorkspaceFailed || !strings.Contains(a.body, `"outcome":"done"`) || !strings.Contains(a.body, "was executed") {
		t.Errorf("%d %s %v: %s", a.status, code, a.err, a.body)
	}
	for _, c := range s.ws.Calls() {
		if strings.HasSuffix(c.Path, "/cancel") {
			t.Error("it was canceled")
		}
	}
}

func TestSQLExecutesOnceInABurst(t *testing.T) {
	inEachWay(t, func(t *testing.T, s *stage) {
		for _, f := range []sandbox.Fault{
			{Path: statements + "/", Method: "GET", Status: 503, Times: 3}, {Path: "/sandbox-storage/", Status: 503, Times: 2},
			{Path: statements + "/", Method: "GET", Status: 429, RetryAfter: time.Second, Times: 1}, {Path: statements + "/", Method: "GET", Reset: true, Times: 2},
		} {
			s.ws.Faults.Add(f)
		}
		a := s.sql(alice, statement("SELECT id FROM range(2500)"))
		if a.status != 200 || a.err != nil || strings.Count(a.body, "\n") != 2500 {
			t.Errorf("%d %v, %d rows", a.status, a.err, strings.Count(a.body, "\n"))
		}
		if n := len(s.ws.Statements()); n != 1 {
			t.Errorf("executed %d times", n)
		}
	})
}

// A link that has run out is asked for anew.
func TestSQLStaleLink(t *testing.T) {
	s := newStage(t, nil)
	s.ws.Faults.Add(sandbox.Fault{Path: "/sandbox-storage/", Status: 403, Times: 1})
	if a := s.sql(alice, statement("SELECT id FROM range(1500)")); a.status != 200 || strings.Count(a.body, "\n") != 1500 {
		t.Errorf("%+v", a)
	}
}

// After rows have gone out a failure breaks the body off, and NDJSON says why in its last line.
func TestSQLBreaksOff(t *testing.T) {
	for accept, last := range map[string]string{"application/x-ndjson": `{"obo_error":{`, "text/csv": "", "application/vnd.apache.arrow.stream": ""} {
		s := newStage(t, nil)
		resp, err := s.client.Do(s.request("POST", "/.obo/sql", s.token(alice, sandbox.TokenOptions{}), statement("SELECT * FROM range(60000)"), "Accept", accept))
		relaytest.Must(t, err)
		first := make([]byte, 100)
		_, err = io.ReadFull(resp.Body, first)
		relaytest.Must(t, err)
		s.ws.Faults.Add(sandbox.Fault{Path: statements + "/", Status: 500})
		rest, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if !errors.Is(err, relay.CodeWorkspaceFailed) {
			t.Errorf("%s: the body ends with %v after %d bytes", accept, err, len(rest))
		}
		lines := strings.Split(strings.TrimSuffix(string(rest), "\n"), "\n")
		if got := lines[len(lines)-1]; last != "" && (!strings.HasPrefix(got, last) || !strings.Contains(got, `"code":"workspace_failed"`)) {
			t.Errorf("%s: the last line is %s", accept, got)
		}
		s.onlyThePerson()
	}
}
