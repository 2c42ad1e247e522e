package worker

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// rowEncoder writes rows whose values arrive as JSON strings or null.
type rowEncoder interface {
	head() []byte // before the first row
	columns() int
	cell(out []byte, column int, value jsontext.Value) ([]byte, error)
	end(out []byte) []byte // of a row
}

func newRowEncoder(f *sqlFormat, columns []sqlColumn) rowEncoder {
	names := uniqueNames(columns)
	if f == formatCSV {
		return csvRows{names}
	}
	rows := ndjsonRows{}
	for i, c := range columns {
		key, _ := jsontext.AppendQuote(nil, strings.ToValidUTF8(names[i], "\uFFFD")) // fails for invalid UTF-8 only
		rows.keys = append(rows.keys, append(key, ':'))
		rows.kinds = append(rows.kinds, kindOf(c))
	}
	return rows
}

// uniqueNames makes every name a member name of its own: of a, a the second becomes a_2.
func uniqueNames(columns []sqlColumn) []string {
	taken := map[string]bool{}
	for _, c := range columns {
		taken[c.Name] = true
	}
	var names []string
	last := map[string]int{} // number of the last column of that name
	for _, c := range columns {
		name := c.Name
		n := last[c.Name] + 1
		if n > 1 {
			for taken[c.Name+"_"+strconv.Itoa(n)] {
				n++
			}
			name = c.Name + "_" + strconv.Itoa(n)
			taken[name] = true
		}
		last[c.Name] = n
		names = append(names, name)
	}
	return names
}

type valueKind int

const (
	kindText valueKind = iota
	kindNumber
	kindBool
)

func kindOf(c sqlColumn) valueKind {
	switch strings.ToUpper(c.TypeName) {
	case "BYTE", "SHORT", "INT", "LONG", "FLOAT", "DOUBLE":
		return kindNumber
	case "BOOLEAN":
		return kindBool
	}
	return kindText
}

// ndjsonRows writes one object a row. Whole and floating numbers are JSON numbers, BOOLEAN is true or false, NULL is null;
// everything else is the workspace's text, DECIMAL so that no digit is lost.
type ndjsonRows struct {
	keys  [][]byte // quoted, with the colon
	kinds []valueKind
}

func (ndjsonRows) head() []byte   { return nil }
func (n ndjsonRows) columns() int { return len(n.keys) }

func (n ndjsonRows) cell(out []byte, column int, value jsontext.Value) ([]byte, error) {
	out = append(out, "{,"[min(column, 1)])
	out = append(out, n.keys[column]...)
	if value.Kind() != '"' {
		return append(out, value...), nil
	}
	inner := value[1 : len(value)-1]
	switch n.kinds[column] {
	case kindNumber:
		if number(inner) {
			return append(out, inner...), nil
		}
	case kindBool:
		if s := string(inner); s == "true" || s == "false" {
			return append(out, inner...), nil
		}
	}
	return append(out, value...), nil
}

func (n ndjsonRows) end(out []byte) []byte {
	if len(n.keys) == 0 {
		out = append(out, '{')
	}
	return append(out, '}', '\n')
}

// number reports whether text is a JSON number (RFC 8259 §6); NaN and Infinity are not.
func number(text []byte) bool {
	return len(text) > 0 && len(text) <= 64 && (text[0] == '-' || text[0] >= '0' && text[0] <= '9') && jsontext.Value(text).IsValid()
}

// csvRows writes RFC 4180. NULL is an empty field, the empty text is "".
type csvRows struct{ names []string }

func (c csvRows) head() []byte {
	var out []byte
	for i, name := range c.names {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendCSV(out, []byte(name))
	}
	return append(out, '\r', '\n')
}

func (c csvRows) columns() int { return len(c.names) }

func (c csvRows) cell(out []byte, column int, value jsontext.Value) ([]byte, error) {
	if column > 0 {
		out = append(out, ',')
	}
	switch value.Kind() {
	case 'n':
		return out, nil
	case '"':
	default:
		return appendCSV(out, value), nil
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') >= 0 {
		var err error
		if inner, err = jsontext.AppendUnquote(nil, value); err != nil {
			return nil, err
		}
	}
	return appendCSV(out, inner), nil
}

func (c csvRows) end(out []byte) []byte { return append(out, '\r', '\n') }

func appendCSV(out, text []byte) []byte {
	if len(text) > 0 && !bytes.ContainsAny(text, ",\"\r\n") && text[0] != ' ' && text[len(text)-1] != ' ' {
		return append(out, text...)
	}
	out = append(out, '"')
	out = append(out, bytes.ReplaceAll(text, []byte{'"'}, []byte{'"', '"'})...)
	return append(out, '"')
}

// rowReader decodes an array of rows, one value in memory at a time, and writes them on.
type rowReader struct {
	encoder rowEncoder
	out     *rowSender
	row     []byte
	rows    int64
	room    *rowRoom
	failed  error // writing to the caller
}

var errRows = errors.New("the result is not an array of rows with the columns of its schema")

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (r *rowReader) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == 'n' {
		return d.SkipValue()
	}
	if token, err := d.ReadToken(); err != nil || token.Kind() != '[' {
		return errors.Join(errRows, err)
	}
	for d.PeekKind() == '[' {
		if err := r.readRow(d); err != nil {
			return err
		}
	}
	if token, err := d.ReadToken(); err != nil || token.Kind() != ']' {
		return errors.Join(errRows, err)
	}
	return nil
}

func (r *rowReader) readRow(d *jsontext.Decoder) error {
	r.room.next()
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	r.row = r.row[:0]
	for i := range r.encoder.columns() {
		if k := d.PeekKind(); k == ']' || k == '[' || k == '{' {
			return errRows
		}
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		if r.row, err = r.encoder.cell(r.row, i, value); err != nil {
			return err
		}
	}
	if token, err := d.ReadToken(); err != nil || token.Kind() != ']' {
		return errors.Join(errRows, err)
	}
	r.rows++
	if _, err := r.out.Write(r.encoder.end(r.row)); err != nil {
		r.failed = err
		return err
	}
	return nil
}

// maxColumnsHeader keeps the reply's head small; longer lists are left out.
const maxColumnsHeader = 8 << 10

// columnsHeader is [{"name":"id","type":"BIGINT"},…] in ASCII.
func columnsHeader(columns []sqlColumn) string {
	type column struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	list := []column{}
	for _, c := range columns {
		list = append(list, column{c.Name, c.TypeText})
	}
	b, err := json.Marshal(list, jsontext.AllowInvalidUTF8(true))
	if err != nil || len(b) > maxColumnsHeader {
		return ""
	}
	var out strings.Builder
	for _, r := range string(b) {
		switch {
		case r < utf8.RuneSelf && r != 0x7F:
			out.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
