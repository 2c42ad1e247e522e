package sandbox

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	inlineLimit        = 25 << 20
	inlineLimitMessage = "Inline byte limit exceeded. Statements executed with disposition=INLINE can have a result size of at most 26214400 bytes. " +
		"Please execute the statement with disposition=EXTERNAL_LINKS if you want to download the full result."
	storagePath = "/sandbox-storage/"
	linkLife    = 15 * time.Minute
)

func (s *statement) chunks() int {
	return (s.query.rows + s.query.chunkRows - 1) / s.query.chunkRows
}

// span is the half-open range of rows in a chunk.
func (s *statement) span(chunk int) (from, to int) {
	from = chunk * s.query.chunkRows
	return from, min(from+s.query.chunkRows, s.query.rows)
}

// overInlineLimit counts the bytes of the values; the platform's measure of a
// result is not documented.
func (s *statement) overInlineLimit() bool {
	total := 0
	for i := range s.query.rows {
		for _, v := range s.query.row(i) {
			if v != nil {
				total += len(*v)
			}
		}
		if total > inlineLimit {
			return true
		}
	}
	return false
}

func (s *statement) manifest() map[string]any {
	columns := []map[string]any{}
	for i, c := range s.query.columns {
		name, _, _ := strings.Cut(c.typeText(), "(")
		if name == "BIGINT" {
			name = "LONG"
		}
		columns = append(columns, map[string]any{"name": c.Name, "type_text": c.typeText(), "type_name": name, "position": i})
	}
	chunks := []map[string]any{}
	for i := range s.chunks() {
		from, to := s.span(i)
		chunks = append(chunks, map[string]any{"chunk_index": i, "row_offset": from, "row_count": to - from})
	}
	return map[string]any{
		"format": s.request.Format, "schema": map[string]any{"column_count": len(columns), "columns": columns},
		"total_chunk_count": s.chunks(), "total_row_count": s.query.rows, "truncated": s.request.RowLimit > 0, "chunks": chunks,
	}
}

func (c Column) typeText() string {
	if c.Type == "" {
		return "STRING"
	}
	return strings.ToUpper(c.Type)
}

// writeChunk writes a chunk as the API describes it.
func (w *Workspace) writeChunk(out io.Writer, s *statement, chunk int) {
	from, to := s.span(chunk)
	about := map[string]any{"chunk_index": chunk, "row_offset": from, "row_count": to - from}
	if chunk+1 < s.chunks() {
		about["next_chunk_index"] = chunk + 1
		about["next_chunk_internal_link"] = fmt.Sprintf("%s/%s/result/chunks/%d?row_offset=%d", statementsPath, s.id, chunk+1, to)
	}
	if s.request.Disposition == externalLinks {
		about["external_link"], about["expiration"] = w.link(s, chunk)
		_ = json.NewEncoder(out).Encode(map[string]any{"external_links": []any{about}}) // a caller that left is no fault of ours
		return
	}
	head, _ := json.Marshal(about) // numbers and strings
	buffered := bufio.NewWriter(out)
	_, _ = fmt.Fprintf(buffered, `%s,"data_array":`, head[:len(head)-1])
	s.writeArray(buffered, chunk)
	_, _ = buffered.WriteString("}")
	_ = buffered.Flush()
}

func (w *Workspace) chunkJSON(s *statement, chunk int) []byte {
	var b bytes.Buffer
	w.writeChunk(&b, s, chunk)
	return b.Bytes()
}

// writeArray writes an array of arrays of strings and nulls.
func (s *statement) writeArray(out *bufio.Writer, chunk int) {
	from, to := s.span(chunk)
	for i := from; i < to; i++ {
		row, _ := json.Marshal(s.query.row(i)) // strings
		_ = out.WriteByte("[,"[min(i-from, 1)])
		_, _ = out.Write(row)
	}
	if from == to {
		_ = out.WriteByte('[')
	}
	_ = out.WriteByte(']')
}

// writeCSV has a header in the first chunk only, and writes NULL as null.
func (s *statement) writeCSV(out io.Writer, chunk int) {
	c := csv.NewWriter(out)
	defer c.Flush()
	record := make([]string, len(s.query.columns))
	if chunk == 0 {
		for i, column := range s.query.columns {
			record[i] = column.Name
		}
		_ = c.Write(record)
	}
	from, to := s.span(chunk)
	for i := from; i < to; i++ {
		for c, v := range s.query.row(i) {
			record[c] = "null"
			if v != nil {
				record[c] = *v
			}
		}
		_ = c.Write(record)
	}
}

// link is a presigned address of a chunk.
func (w *Workspace) link(s *statement, chunk int) (address, expiration string) {
	expiry := w.cfg.Now().Add(linkLife)
	path, e := storagePath+s.id+"/"+strconv.Itoa(chunk), strconv.FormatInt(expiry.Unix(), 10)
	return w.URL() + path + "?expires=" + e + "&signature=" + w.signature(path, e), expiry.UTC().Format(time.RFC3339)
}

func (w *Workspace) signature(path, expires string) string {
	mac := hmac.New(sha256.New, w.storageKey)
	_, _ = io.WriteString(mac, path+"?"+expires)
	return hex.EncodeToString(mac.Sum(nil))
}

// storage serves external links. Like a cloud's storage it takes the signature
// for credentials and refuses any second kind.
func (w *Workspace) storage(rw http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	expires, err := strconv.ParseInt(query.Get("expires"), 10, 64)
	s := w.statements.get(r.PathValue("id"))
	chunk, chunkErr := strconv.Atoi(r.PathValue("chunk"))
	switch {
	case r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "":
		http.Error(rw, "InvalidAuthenticationInfo: the link has credentials of its own", http.StatusBadRequest)
	case err != nil || !hmac.Equal([]byte(query.Get("signature")), []byte(w.signature(r.URL.Path, query.Get("expires")))),
		w.cfg.Now().Unix() > expires:
		http.Error(rw, "AuthenticationFailed: the signature is wrong or has expired", http.StatusForbidden)
	case s == nil || chunkErr != nil || w.statements.state(s) != StateSucceeded:
		http.Error(rw, "BlobNotFound", http.StatusNotFound)
	default:
		rw.Header().Set("Content-Type", "application/octet-stream")
		out := bufio.NewWriterSize(rw, 64<<10)
		defer func() { _ = out.Flush() }() // a caller that left is no fault of ours
		switch s.request.Format {
		case arrowStream:
			s.writeArrow(out, chunk)
		case csvFormat:
			s.writeCSV(out, chunk)
		default:
			s.writeArray(out, chunk)
		}
	}
}
