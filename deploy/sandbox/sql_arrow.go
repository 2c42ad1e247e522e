package sandbox

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
)

// arrowBatchRows is the number of rows in a record batch.
const arrowBatchRows = 10_000

// writeArrow writes a chunk as an Arrow IPC stream of its own: schema, record
// batches, end of stream (Arrow columnar format, "IPC Streaming Format").
// BIGINT columns are Int64, all others Utf8.
func (s *statement) writeArrow(out io.Writer, chunk int) {
	writeArrowMessage(out, arrowSchema(s.query.columns), nil)
	from, to := s.span(chunk)
	for ; from < to; from += arrowBatchRows {
		metadata, body := s.arrowBatch(from, min(from+arrowBatchRows, to))
		writeArrowMessage(out, metadata, body)
	}
	_, _ = out.Write([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0})
}

// writeArrowMessage writes continuation, length, metadata and body.
func writeArrowMessage(out io.Writer, metadata, body []byte) {
	for len(metadata)%8 != 0 {
		metadata = append(metadata, 0)
	}
	head := binary.LittleEndian.AppendUint32([]byte{0xFF, 0xFF, 0xFF, 0xFF}, uint32(len(metadata)))
	for _, b := range [][]byte{head, metadata, body} {
		_, _ = out.Write(b) // a caller that left is no fault of ours
	}
}

// Values of Arrow's Message.fbs and Schema.fbs.
const (
	arrowV5          = 4
	arrowSchemaType  = 1
	arrowRecordBatch = 3
	arrowInt         = 2
	arrowUtf8        = 5
)

// arrowMessage is the table Message; header builds the table that it holds.
func arrowMessage(headerType uint8, bodyLength int, header func(*flat) int) []byte {
	f := &flat{}
	f.u32(0) // offset of the root, patched
	refs, root := f.table(i16(arrowV5), u8(headerType), ref{}, i64(int64(bodyLength)))
	f.point(0, root)
	f.point(refs[0], header(f))
	return f.b
}

func arrowSchema(columns []Column) []byte {
	return arrowMessage(arrowSchemaType, 0, func(f *flat) int {
		refs, at := f.table(i16(0), ref{})
		fields := f.vector(len(columns), refs[0])
		for i, c := range columns {
			typ := uint8(arrowUtf8)
			if c.typeText() == "BIGINT" {
				typ = arrowInt
			}
			refs, field := f.table(ref{}, u8(1), u8(typ), ref{}, nil, ref{})
			f.point(fields[i], field)
			f.text(c.Name, refs[0])
			if typ == arrowInt {
				_, t := f.table(i32(64), u8(1))
				f.point(refs[1], t)
			} else {
				_, t := f.table()
				f.point(refs[1], t)
			}
			f.vector(0, refs[2])
		}
		return at
	})
}

// arrowBatch is a record batch: for each column validity, (offsets,) values.
func (s *statement) arrowBatch(from, to int) (metadata, body []byte) {
	rows := make([][]*string, 0, to-from)
	for i := from; i < to; i++ {
		rows = append(rows, s.query.row(i))
	}
	var nodes, buffers []int64
	add := func(b []byte) {
		buffers = append(buffers, int64(len(body)), int64(len(b)))
		body = append(body, b...)
		for len(body)%8 != 0 {
			body = append(body, 0)
		}
	}
	for c, column := range s.query.columns {
		validity := make([]byte, (len(rows)+7)/8)
		var offsets, values bytes.Buffer
		nulls, number := 0, column.typeText() == "BIGINT"
		little := func(b *bytes.Buffer, v any) { _ = binary.Write(b, binary.LittleEndian, v) }
		little(&offsets, int32(0))
		for i, row := range rows {
			value := ""
			if row[c] == nil {
				nulls++
			} else {
				validity[i/8] |= 1 << (i % 8)
				value = *row[c]
			}
			if number {
				n, _ := strconv.ParseInt(value, 10, 64) // NULL is any number
				little(&values, n)
			} else {
				values.WriteString(value)
				little(&offsets, int32(values.Len()))
			}
		}
		nodes = append(nodes, int64(len(rows)), int64(nulls))
		add(validity)
		if !number {
			add(offsets.Bytes())
		}
		add(values.Bytes())
	}
	return arrowMessage(arrowRecordBatch, len(body), func(f *flat) int {
		refs, at := f.table(i64(int64(len(rows))), ref{}, ref{})
		f.pairs(nodes, refs[0])
		f.pairs(buffers, refs[1])
		return at
	}), body
}

// flat writes a FlatBuffer from its root down, so that every offset points
// forward, as the format wants it.
type flat struct{ b []byte }

// The fields of a table: a nil field is absent, a ref is an offset to patch.
type (
	u8  uint8
	i16 int16
	i32 int32
	i64 int64
	ref struct{}
)

func (f *flat) u32(v uint32) { f.b = binary.LittleEndian.AppendUint32(f.b, v) }

func (f *flat) pad(align, rest int) {
	for len(f.b)%align != rest {
		f.b = append(f.b, 0)
	}
}

// table writes a table and its vtable, and returns where its refs are.
func (f *flat) table(fields ...any) (refs []int, at int) {
	f.pad(2, 0)
	vtable := len(f.b)
	f.b = append(f.b, make([]byte, 4+2*len(fields))...)
	f.pad(8, 0)
	at = len(f.b)
	f.u32(uint32(at - vtable))
	for i, field := range fields {
		if field == nil {
			continue
		}
		size := binary.Size(field)
		if _, is := field.(ref); is {
			size = 4
		}
		f.pad(size, 0)
		binary.LittleEndian.PutUint16(f.b[vtable+4+2*i:], uint16(len(f.b)-at))
		if size == 4 && field == (ref{}) {
			refs = append(refs, len(f.b))
			f.u32(0)
			continue
		}
		f.b, _ = binary.Append(f.b, binary.LittleEndian, field) // numbers of fixed size
	}
	binary.LittleEndian.PutUint16(f.b[vtable:], uint16(4+2*len(fields)))
	binary.LittleEndian.PutUint16(f.b[vtable+2:], uint16(len(f.b)-at))
	return refs, at
}

func (f *flat) point(from, to int) { binary.LittleEndian.PutUint32(f.b[from:], uint32(to-from)) }

// vector writes a vector of n refs and points to it from there.
func (f *flat) vector(n, from int) (refs []int) {
	f.pad(4, 0)
	f.point(from, len(f.b))
	f.u32(uint32(n))
	for range n {
		refs = append(refs, len(f.b))
		f.u32(0)
	}
	return refs
}

// pairs writes a vector of structs of two longs.
func (f *flat) pairs(values []int64, from int) {
	f.pad(8, 4)
	f.point(from, len(f.b))
	f.u32(uint32(len(values) / 2))
	for _, v := range values {
		f.b = binary.LittleEndian.AppendUint64(f.b, uint64(v))
	}
}

func (f *flat) text(s string, from int) {
	f.pad(4, 0)
	f.point(from, len(f.b))
	f.u32(uint32(len(s)))
	f.b = append(append(f.b, s...), 0)
}
