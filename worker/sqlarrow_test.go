package worker

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// discardWriter is a ResponseWriter that counts.
type discardWriter struct {
	header http.Header
	n      int
}

func (d *discardWriter) Header() http.Header         { return d.header }
func (d *discardWriter) WriteHeader(int)             {}
func (d *discardWriter) Write(p []byte) (int, error) { d.n += len(p); return len(p), nil }

// arrowBytes is a message whose FlatBuffer has the fields header type and body length.
func arrowBytes(header byte, body string) string {
	b := make([]byte, 48)
	le := binary.LittleEndian
	le.PutUint32(b[0:], 24)                 // root table
	le.PutUint16(b[8:], 12)                 // vtable: its size, the table's, and four fields
	le.PutUint16(b[10:], 24)                //
	le.PutUint16(b[14:], 4)                 // header_type
	le.PutUint16(b[18:], 8)                 // bodyLength
	le.PutUint32(b[24:], 16)                // back to the vtable
	b[28] = header                          //
	le.PutUint64(b[32:], uint64(len(body))) //
	return "\xff\xff\xff\xff\x30\x00\x00\x00" + string(b) + body
}

func TestArrowJoiner(t *testing.T) {
	const end = "\xff\xff\xff\xff\x00\x00\x00\x00"
	schema, other := arrowBytes(arrowSchema, ""), strings.Replace(arrowBytes(arrowSchema, ""), "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x01", 1)
	batch, dictionary := arrowBytes(arrowBatch, "12345678"), arrowBytes(arrowDictionary, "8 bytes!")
	old := batch[4:] // before Arrow 0.15 there was no continuation
	for name, c := range map[string]struct {
		chunks []string
		ok     bool
	}{
		"one":                 {[]string{schema + batch + end}, true},
		"two":                 {[]string{schema + batch + end, schema + batch + batch + end}, true},
		"without an end":      {[]string{schema + batch, schema + batch}, true},
		"dictionaries":        {[]string{schema + dictionary + batch + end, schema + dictionary + batch + end}, true},
		"old":                 {[]string{schema[4:] + old + "\x00\x00\x00\x00"}, true},
		"schema only":         {[]string{schema + end}, true},
		"another schema":      {[]string{schema + batch + end, other + batch + end}, false},
		"no schema":           {[]string{batch + end}, false},
		"schema twice":        {[]string{schema + schema + end}, false},
		"a tensor":            {[]string{schema + arrowBytes(4, "") + end}, false},
		"empty":               {[]string{""}, false},
		"end only":            {[]string{end}, false},
		"more after the end":  {[]string{schema + end + batch}, false},
		"cut in the body":     {[]string{schema + batch[:len(batch)-1]}, false},
		"cut in the metadata": {[]string{schema + batch[:20]}, false},
		"cut in the length":   {[]string{schema + batch[:6]}, false},
		"huge metadata":       {[]string{schema + "\xff\xff\xff\xff\x00\x00\x00\x7f"}, false},
		"negative metadata":   {[]string{schema + "\xff\xff\xff\xff\xf8\xff\xff\xff"}, false},
		"CSV":                 {[]string{"id,name\n1,x\n"}, false},
	} {
		w := &discardWriter{header: http.Header{}}
		out := newRowSender(w)
		j := &arrowJoiner{out: out}
		var err error
		want := 0
		for i, chunk := range c.chunks {
			if err = j.add(strings.NewReader(chunk)); err != nil {
				break
			}
			want += len(strings.ReplaceAll(chunk, end, ""))
			if i > 0 {
				want -= len(schema)
			}
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if _ = out.Flush(); c.ok && name != "old" && w.n != want {
			t.Errorf("%s: %d bytes, want %d", name, w.n, want)
		}
	}
}

// testdata/arrow was written by pyarrow 26: dictionaries, nested and compressed columns.
func TestArrowJoinerReadsArrow(t *testing.T) {
	w := &discardWriter{header: http.Header{}}
	out := newRowSender(w)
	j := &arrowJoiner{out: out}
	for file, rows := range map[string]int64{"chunk0.arrows": 5, "chunk1.arrows": 3} {
		data, err := os.ReadFile(filepath.Join("testdata", "arrow", file))
		if err != nil {
			t.Fatal(err)
		}
		j.rows = 0
		if err := j.add(bytes.NewReader(data)); err != nil || j.rows != rows {
			t.Errorf("%s: %d rows, %v", file, j.rows, err)
		}
	}
}

func FuzzArrow(f *testing.F) {
	f.Add([]byte(arrowBytes(arrowSchema, "") + arrowBytes(arrowBatch, "12345678") + string(arrowEnd)))
	f.Add([]byte(arrowBytes(arrowSchema, "")[4:]))
	if chunk, err := os.ReadFile(filepath.Join("testdata", "arrow", "chunk0.arrows")); err != nil {
		f.Fatal(err)
	} else {
		f.Add(chunk)
	}
	f.Add([]byte("\xff\xff\xff\xff\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := &discardWriter{header: http.Header{}}
		out := newRowSender(w)
		j := &arrowJoiner{out: out}
		err := j.add(strings.NewReader(string(data)))
		_ = out.Flush()
		if err == nil && w.n > len(data)+4*len(data) || j.rows < 0 {
			t.Errorf("%d bytes and %d rows of %d", w.n, j.rows, len(data))
		}
	})
}
