package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func newSQLWorkspace(t *testing.T, change func(*Config)) (*Workspace, *testClock) {
	t.Helper()
	clock := newTestClock()
	cfg := Config{
		Now: clock.Now, ChunkRows: 10, Warehouses: []string{"w1"},
		Users: []User{{UserName: "alice", Groups: []string{"emea", "analysts"}}, {UserName: "bob", Groups: []string{"amer"}}},
		Tables: []Table{
			{Name: "demo.sales", Columns: []Column{{Name: "region"}, {Name: "amount", Type: "bigint"}}, Rows: []Row{
				{Values: []any{"emea", 10}, Groups: []string{"emea"}}, {Values: []any{"amer", 20}, Groups: []string{"amer"}}, {Values: []any{"all", nil}},
			}},
			{Name: "secret", Columns: []Column{{Name: "a"}}, Groups: []string{"analysts"}},
		},
	}
	if change != nil {
		change(&cfg)
	}
	ws, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ws, clock
}

type answerDoc struct {
	ID     string `json:"statement_id"`
	Status struct {
		State    StatementState `json:"state"`
		SQLState string         `json:"sql_state"`
		Error    struct{ Message string }
	}
	Manifest struct {
		Schema struct {
			Columns []struct {
				Name     string
				TypeText string `json:"type_text"`
				TypeName string `json:"type_name"`
			}
		}
		TotalRows   int `json:"total_row_count"`
		TotalChunks int `json:"total_chunk_count"`
		Truncated   bool
	}
	Result chunkDoc
	Code   any `json:"error_code"`
}

type chunkDoc struct {
	Next  int         `json:"next_chunk_index"`
	Link  string      `json:"next_chunk_internal_link"`
	Rows  [][]*string `json:"data_array"`
	Links []struct {
		Link       string `json:"external_link"`
		Expiration string
		Next       int `json:"next_chunk_index"`
	} `json:"external_links"`
}

func sqlCall(t *testing.T, ws *Workspace, who, method, path, body string, v any) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+mustToken(t, ws, who, TokenOptions{Scopes: []string{ScopeSQL}}))
	rec := httptest.NewRecorder()
	ws.ServeHTTP(rec, r)
	decodeInto(t, rec.Body.String(), v)
	return rec.Code
}

func submit(t *testing.T, ws *Workspace, who, statement string, more string) (answerDoc, int) {
	t.Helper()
	text, _ := json.Marshal(statement)
	var doc answerDoc
	status := sqlCall(t, ws, who, "POST", statementsPath, fmt.Sprintf(`{"warehouse_id":"w1","statement":%s%s}`, text, more), &doc)
	return doc, status
}

func TestSQLRowsDifferByPerson(t *testing.T) {
	ws, _ := newSQLWorkspace(t, nil)
	for who, want := range map[string]string{"alice": "emea 10 all NULL", "bob": "amer 20 all NULL"} {
		doc, _ := submit(t, ws, who, "SELECT * FROM sales;", `,"schema":"demo"`)
		var got []string
		for _, row := range doc.Result.Rows {
			for _, v := range row {
				if v == nil {
					v = text("NULL")
				}
				got = append(got, *v)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s sees %v, want %s", who, got, want)
		}
	}
	if doc, _ := submit(t, ws, "bob", "select * from main.default.secret", ""); doc.Status.SQLState != "42501" {
		t.Errorf("bob reads the secret: %+v", doc.Status)
	}
	var doc answerDoc
	doc, _ = submit(t, ws, "alice", "select 7, session_user ( )", "")
	if row := doc.Result.Rows[0]; *row[0] != "7" || *row[1] != "alice" {
		t.Errorf("session_user: %+v", doc)
	}
	doc, _ = submit(t, ws, "alice", "select current_user()", "")
	if *doc.Result.Rows[0][0] != "alice" {
		t.Errorf("current_user: %+v", doc)
	}
	if status := sqlCall(t, ws, "bob", "GET", statementsPath+"/"+doc.ID, "", new(answerDoc)); status != 404 {
		t.Errorf("bob gets alice's statement: %d", status)
	}
}

func TestSQLChunksInline(t *testing.T) {
	ws, _ := newSQLWorkspace(t, nil)
	doc, _ := submit(t, ws, "alice", "SELECT * FROM range(25)", "")
	if doc.Manifest.TotalRows != 25 || doc.Manifest.TotalChunks != 3 || doc.Manifest.Schema.Columns[0].TypeName != "LONG" {
		t.Fatalf("%+v", doc.Manifest)
	}
	rows, link, next := len(doc.Result.Rows), doc.Result.Link, doc.Result.Next
	for link != "" {
		if want := fmt.Sprintf("%s/%s/result/chunks/%d", statementsPath, doc.ID, next); !strings.HasPrefix(link, want) {
			t.Fatalf("link %s, want %s", link, want)
		}
		var c chunkDoc
		if status := sqlCall(t, ws, "alice", "GET", link, "", &c); status != 200 {
			t.Fatal(status)
		}
		if *c.Rows[0][0] != fmt.Sprint(rows) {
			t.Errorf("chunk begins at %s, want %d", *c.Rows[0][0], rows)
		}
		rows, link, next = rows+len(c.Rows), c.Link, c.Next
	}
	if rows != 25 {
		t.Errorf("%d rows", rows)
	}
	doc, _ = submit(t, ws, "alice", "SELECT id FROM range(25)", `,"row_limit":5`)
	if !doc.Manifest.Truncated || len(doc.Result.Rows) != 5 {
		t.Errorf("row_limit: %+v", doc)
	}
	doc, _ = submit(t, ws, "alice", "SELECT * FROM range(2000000)", "")
	if doc.Status.State != StateFailed || !strings.HasPrefix(doc.Status.Error.Message, "Inline byte limit exceeded") {
		t.Errorf("over 25 MiB: %+v", doc.Status)
	}
}

func TestSQLExternalLinks(t *testing.T) {
	ws, clock := newSQLWorkspace(t, nil)
	server := serve(t, ws.Listen)
	fetch := func(link string, header ...string) (int, string) {
		resp := get(t, newProgram(t), link, header...)
		return resp.StatusCode, readAll(t, resp)
	}
	for format, want := range map[string][3]string{
		jsonArray:   {`[["0"],["1"],`, `[["10"],`, `[["20"],["21"]]`},
		csvFormat:   {"id\n0\n1\n", "10\n", "20\n21\n"},
		arrowStream: {"\xff\xff\xff\xff", "\xff\xff\xff\xff", "\xff\xff\xff\xff"},
	} {
		doc, _ := submit(t, ws, "alice", "SELECT id FROM range(22)", `,"disposition":"EXTERNAL_LINKS","format":"`+format+`"`)
		chunk := doc.Result
		for i := range 3 {
			link := chunk.Links[0].Link
			if !strings.HasPrefix(link, server.URL()) {
				t.Fatal(link)
			}
			if status, body := fetch(link); status != 200 || !strings.HasPrefix(body, want[i]) {
				t.Errorf("%s chunk %d: %d %.40q", format, i, status, body)
			}
			if status, _ := fetch(link, "Authorization", "Bearer x"); status != 400 {
				t.Errorf("a second credential: %d", status)
			}
			if status, _ := fetch(strings.Replace(link, "signature=", "signature=0", 1)); status != 403 {
				t.Errorf("a forged signature: %d", status)
			}
			if i == 2 {
				clock.Advance(linkLife + time.Second)
				if status, _ := fetch(link); status != 403 {
					t.Errorf("an old link: %d", status)
				}
				break
			}
			chunk = chunkDoc{}
			sqlCall(t, ws, "alice", "GET", fmt.Sprintf("%s/%s/result/chunks/%d", statementsPath, doc.ID, i+1), "", &chunk)
		}
	}
	if n := ws.Calls().By("").To(storagePath).Count(); n == 0 {
		t.Error("storage calls are not counted, or not as nobody's")
	}
}

func TestSQLStates(t *testing.T) {
	ws, clock := newSQLWorkspace(t, nil)
	state := func(id string) StatementState {
		var doc answerDoc
		sqlCall(t, ws, "alice", "GET", statementsPath+"/"+id, "", &doc)
		return doc.Status.State
	}
	async := `,"wait_timeout":"0s"`
	for statement, want := range map[string]StatementState{
		"SELECT stuck()": StateRunning, "SELECT queued(1000)": StatePending, "SELECT raise_error('no')": StateFailed, "SELECT 1": StateSucceeded,
		"SELEC": StateFailed, "INSERT INTO x VALUES (1)": StateSucceeded, "SELECT :a": StateFailed, "SELECT * FROM nothing": StateFailed,
	} {
		doc, status := submit(t, ws, "alice", statement, async)
		if status != 200 || doc.Status.State != StatePending {
			t.Errorf("%s: %d %+v", statement, status, doc)
		}
		if got := state(doc.ID); got != want {
			t.Errorf("%s is %s, want %s", statement, got, want)
		}
		sqlCall(t, ws, "bob", "POST", statementsPath+"/"+doc.ID+"/cancel", "", new(any))
		sqlCall(t, ws, "alice", "POST", statementsPath+"/"+doc.ID+"/cancel", "", new(any))
		if want == StateRunning || want == StatePending {
			want = StateCanceled
		}
		if got := state(doc.ID); got != want {
			t.Errorf("%s after cancel is %s, want %s", statement, got, want)
		}
	}
	doc, _ := submit(t, ws, "alice", "SELECT 1", "")
	clock.Advance(resultLife + time.Second)
	if got := state(doc.ID); got != StateClosed {
		t.Errorf("after an hour: %s", got)
	}
	if status := sqlCall(t, ws, "alice", "GET", statementsPath+"/"+doc.ID+"/result/chunks/0", "", new(any)); status != 404 {
		t.Errorf("a chunk of a closed statement: %d", status)
	}
}

func TestSQLParameters(t *testing.T) {
	ws, _ := newSQLWorkspace(t, nil)
	doc, _ := submit(t, ws, "alice", "SELECT :a, :b, 'x', 7, null", `,"parameters":[{"name":"a","value":"1","type":"int"},{"name":"b"}]`)
	row := doc.Result.Rows[0]
	if *row[0] != "1" || row[1] != nil || *row[2] != "x" || *row[3] != "7" || row[4] != nil || doc.Manifest.Schema.Columns[0].TypeText != "INT" {
		t.Errorf("%+v", doc)
	}
}

func TestSQLRefusals(t *testing.T) {
	ws, _ := newSQLWorkspace(t, nil)
	for _, body := range []string{
		"", "{", `{"warehouse_id":"w1"}`, `{"statement":"SELECT 1"}`, `{"statement":"SELECT 1","warehouse_id":"w2"}`,
		`{"statement":"SELECT 1","warehouse_id":"w1","wait_timeout":"4s"}`, `{"statement":"SELECT 1","warehouse_id":"w1","wait_timeout":"51s"}`,
		`{"statement":"SELECT 1","warehouse_id":"w1","wait_timeout":"0s","on_wait_timeout":"CANCEL"}`,
		`{"statement":"SELECT 1","warehouse_id":"w1","format":"CSV"}`, `{"statement":"SELECT 1","warehouse_id":"w1","disposition":"X"}`,
		`{"statement":"SELECT 1","warehouse_id":"w1","row_limit":-1}`,
	} {
		if status := sqlCall(t, ws, "alice", "POST", statementsPath, body, new(any)); status != 400 {
			t.Errorf("%s: %d", body, status)
		}
	}
	if len(ws.Statements()) != 0 {
		t.Error("a refused statement was kept")
	}
	rec := call(ws, "POST", statementsPath, mustToken(t, ws, "alice", TokenOptions{}))
	if rec.Code != 403 || !strings.Contains(rec.Body.String(), "required scopes: sql") {
		t.Errorf("without the scope: %d %s", rec.Code, rec.Body)
	}
}

func TestSQLWaitEndsWithCancel(t *testing.T) {
	ws, _ := newSQLWorkspace(t, nil)
	done := make(chan answerDoc, 1)
	go func() {
		doc, _ := submit(t, ws, "alice", "SELECT stuck()", `,"wait_timeout":"50s"`)
		done <- doc
	}()
	all, err := ws.AwaitStatements(t.Context(), func(all []Statement) bool { return len(all) == 1 })
	if err != nil || all[0].Principal != "alice" || all[0].State != StateRunning {
		t.Fatalf("%+v, %v", all, err)
	}
	sqlCall(t, ws, "alice", "POST", statementsPath+"/"+all[0].ID+"/cancel", "", new(any))
	if doc := <-done; doc.Status.State != StateCanceled {
		t.Errorf("%+v", doc)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ws.AwaitStatements(ctx, func([]Statement) bool { return false }); err == nil {
		t.Error("waited for ever")
	}
}

func TestFaultAfter(t *testing.T) {
	ws, _ := newSQLWorkspace(t, nil)
	ws.Faults.Add(Fault{Path: statementsPath, Method: http.MethodPost, After: true, Times: 1, Status: 503})
	if _, status := submit(t, ws, "alice", "SELECT 1", ""); status != 503 || len(ws.Statements()) != 1 {
		t.Errorf("%d, %v", status, ws.Statements())
	}
}

func TestSQLConfigFaults(t *testing.T) {
	_, err := New(Config{ChunkRows: -1, Tables: []Table{{Name: "a.b.c.d"}, {Name: "x", Columns: []Column{{Name: "a"}}, Rows: []Row{{}}}}})
	for _, want := range []string{"ChunkRows", `"a.b.c.d" is not`, "no columns", "row 0 has 0 values"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
