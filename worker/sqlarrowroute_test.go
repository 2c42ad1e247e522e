package worker_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

const arrowType = "application/vnd.apache.arrow.stream"

// arrowChunks asks the workspace itself for the chunks of a result.
func (s *stage) arrowChunks(text string) (chunks []string) {
	s.t.Helper()
	token := s.token(alice, sandbox.TokenOptions{})
	ask := func(method, path, body string, v any) {
		r, err := http.NewRequestWithContext(s.t.Context(), method, s.ws.URL()+path, strings.NewReader(body))
		relaytest.Must(s.t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultTransport.RoundTrip(r)
		relaytest.Must(s.t, err)
		defer resp.Body.Close()
		relaytest.Must(s.t, json.NewDecoder(resp.Body).Decode(v))
	}
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	type links struct {
		Links []struct {
			Link string `json:"external_link"`
		} `json:"external_links"`
	}
	var doc struct {
		ID       string `json:"statement_id"`
		Manifest struct {
			Chunks int `json:"total_chunk_count"`
		}
	}
	ask("POST", statements, `{"warehouse_id":"w1","disposition":"EXTERNAL_LINKS","format":"ARROW_STREAM","statement":"`+text+`"}`, &doc)
	for n := range doc.Manifest.Chunks {
		var l links
		ask("GET", fmt.Sprintf("%s/%s/result/chunks/%d", statements, doc.ID, n), "", &l)
		resp, err := http.Get(l.Links[0].Link)
		relaytest.Must(s.t, err)
		b, err := io.ReadAll(resp.Body)
		relaytest.Must(s.t, err)
		relaytest.Must(s.t, resp.Body.Close())
		chunks = append(chunks, string(b))
	}
	return chunks
}

// The chunks, a stream each, become one: the schema once, all batches, one end.
func TestSQLArrow(t *testing.T) {
	s := newStage(t, nil)
	const text = "SELECT * FROM range(2500)"
	chunks := s.arrowChunks(text)
	const end = "\xff\xff\xff\xff\x00\x00\x00\x00"
	schema := 8 + binary.LittleEndian.Uint32([]byte(chunks[0][4:8]))
	want := chunks[0][:schema]
	for _, c := range chunks {
		want += strings.TrimSuffix(c[schema:], end)
	}
	want += end
	a := s.sql(alice, statement(text), "Accept", arrowType)
	if len(chunks) != 3 || a.body != want || a.header.Get("Content-Type") != arrowType || a.header.Get("Sql-Row-Count") != "2500" {
		t.Errorf("%d chunks, %d bytes, want %d; %d %v %v", len(chunks), len(a.body), len(want), a.status, a.header, a.err)
	}
	if a := s.sql(alice, statement("SELECT * FROM range(0)"), "Accept", arrowType); a.status != http.StatusNoContent || a.body != "" {
		t.Errorf("no rows: %+v", a)
	}
	s.onlyThePerson()
	inline := newStage(t, func(_ *sandbox.Config, c *worker.RoutesConfig) { c.Inline = true })
	if a := inline.sql(alice, statement("SELECT 1"), "Accept", arrowType); a.code(t) != relay.CodeBadRequest || len(inline.ws.Statements()) != 0 {
		t.Errorf("inline: %+v", a)
	}
}
