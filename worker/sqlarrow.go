package worker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/obo-relay/obo-relay/relay"
)

// sendArrow joins the chunks, each of which is an Arrow IPC stream, to one: the schema once, every batch, and one end.
func (s *sqlResult) sendArrow(ctx context.Context, out *rowSender) *relay.Error {
	joined := &arrowJoiner{out: out}
	total := int64(0)
	for n := range s.state.Manifest.Chunks {
		joined.rows = 0
		want, e := s.readLink(ctx, n, joined.add)
		switch {
		case joined.failed != nil:
			return writeError(ctx, joined.failed)
		case e != nil:
			return e
		case joined.rows != want:
			return s.notWhole(n)
		}
		total += want
		if err := out.flush(); err != nil {
			return writeError(ctx, err)
		}
	}
	if total != s.state.Manifest.Rows {
		return s.notWhole(s.state.Manifest.Chunks)
	}
	if _, err := out.Write(arrowEnd); err != nil {
		return writeError(ctx, err)
	}
	return nil
}

// arrowEnd is the end-of-stream marker: continuation and a length of zero.
var arrowEnd = []byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0}

const (
	arrowContinuation = 0xFFFFFFFF
	maxArrowMetadata  = 8 << 20
	arrowSchema       = 1 // MessageHeader of Message.fbs
	arrowDictionary   = 2
	arrowBatch        = 3
)

var errArrow = errors.New("not an Arrow IPC stream")

// arrowJoiner passes messages on without a look at the values (Arrow columnar format, "Encapsulated message format").
type arrowJoiner struct {
	out    *rowSender
	schema []byte // metadata of the first chunk's
	rows   int64
	failed error // writing to the caller
}

// add reads one stream to its end.
func (j *arrowJoiner) add(in io.Reader) error {
	for first := true; ; first = false {
		metadata, err := readArrowMetadata(in)
		if err != nil {
			return err
		}
		if metadata == nil {
			if first {
				return errArrow
			}
			return atEnd(in)
		}
		m, err := parseArrowMessage(metadata)
		if err != nil {
			return err
		}
		switch {
		case first != (m.header == arrowSchema) || first && m.body != 0:
			return errArrow
		case first && j.schema == nil:
			j.schema = metadata
		case first && bytes.Equal(j.schema, metadata):
			continue
		case first:
			return errArrow // chunks of one result have one schema
		}
		j.rows += m.rows
		if err := j.pass(metadata, io.LimitReader(in, m.body), m.body); err != nil {
			return err
		}
	}
}

// atEnd makes sure that nothing follows the end marker.
func atEnd(in io.Reader) error {
	if _, err := io.ReadFull(in, make([]byte, 1)); err != io.EOF {
		return errors.Join(errArrow, err)
	}
	return nil
}

// readArrowMetadata reads up to a message's body; nil at the end of the stream.
func readArrowMetadata(in io.Reader) ([]byte, error) {
	var word [4]byte
	if _, err := io.ReadFull(in, word[:]); err == io.EOF {
		return nil, nil // a stream may also just end
	} else if err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(word[:])
	if length == arrowContinuation {
		if _, err := io.ReadFull(in, word[:]); err != nil {
			return nil, errors.Join(errArrow, err)
		}
		length = binary.LittleEndian.Uint32(word[:])
	}
	switch {
	case length == 0:
		return nil, nil
	case length > maxArrowMetadata || length%8 != 0:
		return nil, errArrow
	}
	metadata := make([]byte, length)
	_, err := io.ReadFull(in, metadata)
	return metadata, err
}

// pass writes a message on.
func (j *arrowJoiner) pass(metadata []byte, body io.Reader, length int64) error {
	head := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, arrowContinuation), uint32(len(metadata)))
	for _, b := range [][]byte{head, metadata} {
		if _, err := j.out.Write(b); err != nil {
			j.failed = err
			return err
		}
	}
	buffer := make([]byte, 32<<10)
	for length > 0 {
		n, err := body.Read(buffer)
		if n > 0 {
			length -= int64(n)
			if _, err := j.out.Write(buffer[:n]); err != nil {
				j.failed = err
				return err
			}
		}
		if err != nil && length > 0 {
			return errors.Join(errArrow, err)
		}
	}
	return nil
}

type arrowMessage struct {
	header byte
	body   int64
	rows   int64 // of a record batch
}

// parseArrowMessage reads the three things that matter from the FlatBuffer.
func parseArrowMessage(b []byte) (m arrowMessage, err error) {
	f := flatReader{b: b}
	message := f.table(int64(f.u32(0)))
	if at := f.field(message, 1); at > 0 {
		m.header = f.take(at, 1)[0]
	}
	if at := f.field(message, 3); at > 0 {
		m.body = f.i64(at)
	}
	if at := f.field(message, 2); at > 0 && m.header == arrowBatch {
		batch := f.table(at + int64(f.u32(at)))
		if at := f.field(batch, 0); at > 0 {
			m.rows = f.i64(at)
		}
	}
	known := m.header == arrowSchema || m.header == arrowDictionary || m.header == arrowBatch
	if f.broken || !known || m.body < 0 || m.body%8 != 0 || m.rows < 0 {
		return m, errArrow
	}
	return m, nil
}

// flatReader reads a FlatBuffer; whatever points outside of it makes it broken.
type flatReader struct {
	b      []byte
	broken bool
}

func (f *flatReader) take(at, n int64) []byte {
	if at < 0 || at > int64(len(f.b))-n {
		f.broken = true
		return make([]byte, n)
	}
	return f.b[at : at+n]
}

func (f *flatReader) u16(at int64) uint16 { return binary.LittleEndian.Uint16(f.take(at, 2)) }
func (f *flatReader) u32(at int64) uint32 { return binary.LittleEndian.Uint32(f.take(at, 4)) }
func (f *flatReader) i64(at int64) int64  { return int64(binary.LittleEndian.Uint64(f.take(at, 8))) }

// table checks that a table is there.
func (f *flatReader) table(at int64) int64 {
	f.take(at, 4)
	return at
}

// field is where a table has a field, 0 if it has not.
func (f *flatReader) field(table int64, n int64) int64 {
	vtable := table - int64(int32(f.u32(table)))
	if 4+2*n+2 > int64(f.u16(vtable)) {
		return 0
	}
	offset := int64(f.u16(vtable + 4 + 2*n))
	if offset == 0 {
		return 0
	}
	return table + offset
}
